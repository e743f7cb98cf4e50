// Command sprigtemplate renders the JSON list of templates on standard input with the JSON of its one argument, with the functions that patches of a
// ClusterClass have: what Go itself makes of them, for tests. One line of JSON for each: its text or its error.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
)

type answer struct {
	Text  string `json:"text"`
	Error string `json:"error,omitempty"`
}

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
	var templates []string
	if err := json.NewDecoder(os.Stdin).Decode(&templates); err != nil {
		return err
	}
	lines := json.NewEncoder(os.Stdout)
	for _, text := range templates {
		if err := lines.Encode(render(text, data)); err != nil {
			return err
		}
	}
	return nil
}

func render(text string, data map[string]any) answer {
	parsed, err := template.New("value").Funcs(sprig.HermeticTxtFuncMap()).Parse(text)
	if err != nil {
		return answer{Error: err.Error()}
	}
	var out strings.Builder
	if err := parsed.Execute(&out, data); err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Text: out.String()}
}
