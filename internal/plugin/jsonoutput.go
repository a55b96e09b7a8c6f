package plugin

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/spf13/pflag"
)

// jsonOutput is the flag --output of commands whose answer is not a Kubernetes object: json, or unset.
type jsonOutput bool

func (o *jsonOutput) bind(flags *pflag.FlagSet, content string) {
	flags.VarP(o, "output", "o", "json: "+content)
}

// Set implements pflag.Value.
func (o *jsonOutput) Set(text string) error {
	if *o = text == "json"; !*o {
		return errors.New("set json, or leave it out")
	}
	return nil
}

// String implements pflag.Value.
func (o *jsonOutput) String() string {
	if *o {
		return "json"
	}
	return ""
}

// Type implements pflag.Value.
func (o *jsonOutput) Type() string { return "string" }

// writeJSON writes a value as one line.
func writeJSON(out io.Writer, value any) error {
	line, err := json.Marshal(value)
	if err == nil {
		_, err = fmt.Fprintf(out, "%s\n", line)
	}
	return err
}
