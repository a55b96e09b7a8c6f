package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/printers"

	"heymarket.dev/operator/api/v1alpha1"
)

// output is the format of resources, as in kubectl's flag of this name.
type output string

// The values of the flag; none means a table.
const (
	outputJSON output = "json"
	outputYAML output = "yaml"
	outputName output = "name"
	outputWide output = "wide"
)

var outputs = []output{outputJSON, outputYAML, outputName, outputWide}

func (o *output) bind(flags *pflag.FlagSet) {
	flags.VarP(o, "output", "o", "json, yaml, name or wide; default: a table")
}

// Set implements pflag.Value.
func (o *output) Set(text string) error {
	if !slices.Contains(outputs, output(text)) {
		return fmt.Errorf("set json, yaml, name or wide")
	}
	*o = output(text)
	return nil
}

// String implements pflag.Value.
func (o *output) String() string { return string(*o) }

// Type implements pflag.Value.
func (o *output) Type() string { return "string" }

// structured reports whether whole objects are printed, and not a table of them.
func (o output) structured() bool { return o != "" && o != outputWide }

// print writes a HeymarketWebhook, or a list of them.
func (o output) print(out io.Writer, object runtime.Object) error {
	switch object := object.(type) {
	case *v1alpha1.HeymarketWebhook:
		complete(object)
	case *v1alpha1.HeymarketWebhookList:
		object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("HeymarketWebhookList"))
		for i := range object.Items {
			complete(&object.Items[i])
		}
	}
	var printer printers.ResourcePrinter = &printers.JSONPrinter{}
	switch o {
	case outputYAML:
		printer = &printers.YAMLPrinter{}
	case outputName:
		printer = &printers.NamePrinter{}
	}
	return printer.PrintObj(object, out)
}

// complete sets the kind of an object, which clients omit, and drops fields that kubectl does not show
// either.
func complete(hook *v1alpha1.HeymarketWebhook) {
	hook.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("HeymarketWebhook"))
	hook.ManagedFields = nil
}

// list prints the columns of kubectl get, from the API server's table.
func (c *cluster) list(ctx context.Context, out io.Writer, as output, everywhere bool) error {
	namespace := c.namespace
	if everywhere {
		namespace = metav1.NamespaceAll
	}
	request := c.webhooks.Get().Namespace(namespace).Resource(webhookResource)
	if as.structured() {
		var list v1alpha1.HeymarketWebhookList
		if err := request.Do(ctx).Into(&list); err != nil {
			return c.explain("list HeymarketWebhooks", err)
		}
		if as != outputName {
			return as.print(out, &list)
		}
		for i := range list.Items { // the name printer does not support lists
			if err := as.print(out, &list.Items[i]); err != nil {
				return err
			}
		}
		return nil
	}
	raw, err := request.SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").Do(ctx).Raw()
	if err != nil {
		return c.explain("list HeymarketWebhooks", err)
	}
	var table metav1.Table
	if err := json.Unmarshal(raw, &table); err != nil {
		return fmt.Errorf("read the API server's answer: %w", err)
	}
	if len(table.Rows) == 0 {
		if everywhere {
			fmt.Fprintln(out, "No HeymarketWebhooks found.")
		} else {
			fmt.Fprintf(out, "No HeymarketWebhooks found in namespace %s.\n", namespace)
		}
		return nil
	}
	for i := range table.Rows {
		row := &table.Rows[i].Object
		object := &metav1.PartialObjectMetadata{}
		if err := json.Unmarshal(row.Raw, object); err != nil {
			return fmt.Errorf("read the API server's answer: %w", err)
		}
		row.Object = object
	}
	return printers.NewTablePrinter(printers.PrintOptions{WithNamespace: everywhere, Wide: as == outputWide}).PrintObj(&table, out)
}
