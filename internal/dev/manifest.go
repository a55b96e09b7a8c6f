package dev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/dev/admit"
)

// Manifest is the input of a run: one webhook, and its Secrets.
type Manifest struct {
	Webhook *v1alpha1.HeymarketWebhook
	// Secrets are the Secrets of the webhook's namespace, by name.
	Secrets map[string]map[string][]byte
}

// ReadManifest reads a file, every .yaml, .yml and .json in a directory, or stdin for "-", and admits the HeymarketWebhook in it
// as an API server would. If there are several, name selects one. Resources without a namespace are in the given one. Other kinds
// are ignored.
func ReadManifest(ctx context.Context, path string, stdin io.Reader, namespace, name string) (*Manifest, error) {
	documents, err := readDocuments(path, stdin)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Secrets: map[string]map[string][]byte{}}
	var names []string
	var secrets []corev1.Secret
	for _, document := range documents {
		var is metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(document, &is); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		switch {
		case is.Kind == "Secret" && is.APIVersion == "v1":
			var secret corev1.Secret
			if err := yaml.UnmarshalStrict(document, &secret); err != nil {
				return nil, fmt.Errorf("read Secret %s in %s: %w", is.Name, path, err)
			}
			secrets = append(secrets, secret)
		case is.Kind == "HeymarketWebhook":
			if names = append(names, is.Name); name != "" && is.Name != name {
				continue
			}
			if is.Namespace == "" {
				if document, err = inNamespace(document, namespace); err != nil {
					return nil, fmt.Errorf("read %s: %w", path, err)
				}
			}
			if m.Webhook, err = admit.HeymarketWebhook(ctx, document); err != nil {
				return nil, err
			}
		}
	}
	switch {
	case len(names) == 0:
		return nil, fmt.Errorf("%s holds no HeymarketWebhook", path)
	case m.Webhook == nil:
		return nil, fmt.Errorf("%s holds no HeymarketWebhook %q; it holds %s", path, name, strings.Join(names, ", "))
	case len(names) > 1 && name == "":
		return nil, fmt.Errorf("%s holds several HeymarketWebhooks: name one of %s", path, strings.Join(names, ", "))
	}
	for _, s := range secrets {
		if s.Namespace != m.Webhook.Namespace && (s.Namespace != "" || namespace != m.Webhook.Namespace) {
			continue
		}
		data := map[string][]byte{}
		maps.Copy(data, s.Data)
		for key, value := range s.StringData {
			data[key] = []byte(value)
		}
		m.Secrets[s.Name] = data
	}
	return m, nil
}

// inNamespace adds a namespace to a resource without one.
func inNamespace(document []byte, namespace string) ([]byte, error) {
	var object map[string]any
	if err := yaml.Unmarshal(document, &object); err != nil {
		return nil, err
	}
	metadata, ok := object["metadata"].(map[string]any)
	if !ok {
		return document, nil // the mistake is reported later
	}
	metadata["namespace"] = namespace
	return yaml.Marshal(object)
}

func readDocuments(path string, stdin io.Reader) ([][]byte, error) {
	const most = 4 << 20
	if path == "-" {
		text, err := io.ReadAll(io.LimitReader(stdin, most))
		return split(text), err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	files := []string{path}
	if info.IsDir() {
		files = nil
		for _, pattern := range []string{"*.yaml", "*.yml", "*.json"} {
			found, _ := filepath.Glob(filepath.Join(path, pattern)) // the patterns are valid
			files = append(files, found...)
		}
		slices.Sort(files)
	}
	var documents [][]byte
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil && len(text) > most {
			err = errors.New("it is larger than 4 MiB")
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		documents = append(documents, split(text)...)
	}
	return documents, nil
}

// split returns the documents of a YAML stream.
func split(text []byte) [][]byte {
	var documents [][]byte
	var current bytes.Buffer
	end := func() {
		documents = append(documents, bytes.Clone(current.Bytes()))
		current.Reset()
	}
	for line := range bytes.Lines(text) {
		if trimmed := bytes.TrimRight(line, " \t\r\n"); bytes.Equal(trimmed, []byte("---")) || bytes.HasPrefix(line, []byte("--- #")) {
			end()
			continue
		}
		current.Write(line)
	}
	end()
	return documents
}
