// Command ignition answers what the real tools say of a configuration, for tests.
//
//	ignition validate              an Ignition configuration (2.x or 3.x) on standard input: exits 0, or says what is wrong
//	ignition merge <additional>    the configuration on standard input (2.3 or 3.x) with an additional configuration merged in:
//	                               a Container Linux Config for 2.3, Butane's YAML for 3.x; prints Ignition
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	butane "github.com/coreos/butane/config"
	"github.com/coreos/butane/config/common"
	new "github.com/coreos/ignition/v2/config"
	new34 "github.com/coreos/ignition/v2/config/v3_4"
	clc "github.com/flatcar/container-linux-config-transpiler/config"
	old23 "github.com/flatcar/ignition/config/v2_3"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	switch {
	case len(arguments) == 1 && arguments[0] == "validate":
		return validate(input)
	case len(arguments) == 2 && arguments[0] == "merge":
		additional, err := os.ReadFile(arguments[1])
		if err != nil {
			return err
		}
		return merge(input, additional)
	}
	return errors.New("usage: ignition validate | ignition merge <additional>")
}

func isOld(input []byte) (bool, error) {
	var head struct {
		Ignition struct {
			Version string `json:"version"`
		} `json:"ignition"`
	}
	if err := json.Unmarshal(input, &head); err != nil {
		return false, err
	}
	return strings.HasPrefix(head.Ignition.Version, "2."), nil
}

func validate(input []byte) error {
	old, err := isOld(input)
	if err != nil {
		return err
	}
	if old {
		_, report, err := old23.Parse(input)
		return judged(len(report.Entries), report.String(), err)
	}
	_, report, err := new.Parse(input)
	return judged(len(report.Entries), report.String(), err)
}

// judged makes warnings errors: what we write is to be without either.
func judged(entries int, report string, err error) error {
	if err != nil {
		return fmt.Errorf("%w\n%s", err, report)
	}
	if entries > 0 {
		return errors.New(report)
	}
	return nil
}

func merge(input, additional []byte) error {
	old, err := isOld(input)
	if err != nil {
		return err
	}
	if old {
		base, report, err := old23.Parse(input)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, report.String())
		}
		parsed, tree, parseReport := clc.Parse(additional)
		if parseReport.IsFatal() {
			return errors.New(parseReport.String())
		}
		more, convertReport := clc.Convert(parsed, "", tree)
		if convertReport.IsFatal() {
			return errors.New(convertReport.String())
		}
		return print(old23.Append(base, more))
	}
	base, report, err := new34.ParseCompatibleVersion(input)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, report.String())
	}
	translated, butaneReport, err := butane.TranslateBytes(additional, common.TranslateBytesOptions{})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, butaneReport.String())
	}
	more, moreReport, err := new34.ParseCompatibleVersion(translated)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, moreReport.String())
	}
	return print(new34.Merge(base, more))
}

func print(config any) error {
	encoded, err := json.Marshal(config)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(encoded)
	return err
}
