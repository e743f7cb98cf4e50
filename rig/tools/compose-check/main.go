// Command compose-check loads compose files as `docker compose` does (schema, merging, interpolation, consistency) and prints the project as one JSON object:
// compose-check FILE... Every profile counts. Variables come from NAME=VALUE arguments alone, not from this process's environment.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	var files, variables []string
	for _, argument := range os.Args[1:] {
		if strings.Contains(argument, "=") {
			variables = append(variables, argument)
		} else {
			files = append(files, argument)
		}
	}
	body, err := load(files, variables)
	if err != nil {
		fmt.Fprintln(os.Stderr, "compose-check:", err)
		os.Exit(1)
	}
	fmt.Println(string(body))
}

func load(files, variables []string) ([]byte, error) {
	if len(files) == 0 {
		return nil, fmt.Errorf("name a compose file")
	}
	options, err := cli.NewProjectOptions(files, cli.WithEnv(variables), cli.WithProfiles([]string{"*"}), cli.WithResolvedPaths(true), cli.WithConsistency(true))
	if err != nil {
		return nil, err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return nil, err
	}
	return project.MarshalJSON()
}
