package contract_test

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/contract"
)

// The file holds an answer with every member. A renamed member would no longer be read from it.
func TestStatusNames(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("testdata/status.json")
	if err != nil {
		t.Fatal(err)
	}
	var s contract.Status
	in := json.NewDecoder(bytes.NewReader(want))
	in.DisallowUnknownFields()
	if err := in.Decode(&s); err != nil {
		t.Fatal(err)
	}
	noneZero(t, "", reflect.ValueOf(s))
	got, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytes.TrimSpace(want), got) {
		t.Errorf("written again it is\n%s", got)
	}
	if !strings.Contains(string(want), `"`+contract.BacklogMember+`": `) {
		t.Errorf("there is no member %q", contract.BacklogMember)
	}
}

// noneZero sees to it that the file leaves no member out.
func noneZero(t *testing.T, at string, v reflect.Value) {
	t.Helper()
	if v.IsZero() {
		t.Errorf("testdata/status.json has no value for Status%s", at)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		noneZero(t, at, v.Elem())
	case reflect.Slice:
		noneZero(t, at+"[]", v.Index(0))
	case reflect.Struct:
		if v.Type().PkgPath() == "time" {
			return
		}
		for i := range v.NumField() {
			noneZero(t, at+"."+v.Type().Field(i).Name, v.Field(i))
		}
	}
}
