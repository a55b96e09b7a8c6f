package admin

import (
	_ "embed"
	"net/http"
)

//go:embed openapi.json
var openAPI []byte

// OpenAPI returns the description of all routes, an OpenAPI 3.1 document in JSON. It must not be
// changed.
func OpenAPI() []byte { return openAPI }

func describe(w http.ResponseWriter, r *http.Request) (any, error) {
	if _, err := readQuery(r); err != nil {
		return nil, err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPI)
	return nil, nil
}
