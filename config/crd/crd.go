// Package crd holds the CustomResourceDefinition of HeymarketWebhook, as `make generate` writes it.
package crd

import _ "embed"

// HeymarketWebhook is the CustomResourceDefinition, in YAML.
//
//go:embed heymarket.dev_heymarketwebhooks.yaml
var HeymarketWebhook []byte
