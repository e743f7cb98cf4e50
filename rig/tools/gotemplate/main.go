// Command gotemplate renders the template on standard input with the JSON of its one argument: what Go itself makes of it, for tests.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/template"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var data map[string]any
	if err := json.Unmarshal([]byte(os.Args[1]), &data); err != nil {
		return err
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	parsed, err := template.New("file").Parse(string(text))
	if err != nil {
		return err
	}
	return parsed.Execute(os.Stdout, data)
}
