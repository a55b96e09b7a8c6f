package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A configuration in the first format can still be read, with the same meaning.
func TestReadsFormat1(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/format-1/*.json")
	if err != nil || len(files) != 3 {
		t.Fatalf("fixtures: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			written, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Decode(written)
			if err != nil {
				t.Fatal(err)
			}
			if ignored := Ignored(written); len(ignored) > 0 {
				t.Errorf("no longer known: %v", ignored)
			}
			// Nothing is lost: encoded again, every member is unchanged.
			again, err := Encode(c)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(written)) {
				if line = strings.TrimRight(strings.TrimSpace(line), ","); !strings.Contains(string(again), line) {
					t.Errorf("lost: %s", line)
				}
			}
		})
	}
}

// A receiver rejects members of its own format that it does not know. Each later one is listed with its format, so that a
// configuration that uses none of them keeps the format that the previous release reads.
func TestEveryMemberHasItsFormat(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/format-1/members.txt")
	if err != nil {
		t.Fatal(err)
	}
	first := map[string]bool{}
	for m := range strings.FieldsSeq(string(text)) {
		first[m] = true
	}
	known := map[string]bool{}
	addKnown(known, "", reflect.TypeFor[Config]())
	for m := range known {
		if format := introduced[m]; !first[m] && (format < 2 || format > Version) {
			t.Errorf("%q is newer than format 1: enter it in the table introduced, with the next format, and raise Version to that", m)
		}
	}
	for m := range first {
		if !known[m] {
			t.Errorf("%q is gone, and format 1 has it", m)
		}
	}
	for m := range introduced {
		if !known[m] || first[m] {
			t.Errorf("%q is entered in the table introduced, and is no new member", m)
		}
	}
}

// A configuration without new members is written as before; one with new members has their format number.
func TestEncodeWritesTheLowestFormat(t *testing.T) {
	t.Parallel()
	later := map[string]int{"paused": 2, "targets[].headers[].value": 3}
	for name, tc := range map[string]struct {
		change func(*Config)
		want   int
	}{
		"nothing new": {func(*Config) {}, 1},
		"the second":  {func(c *Config) { c.Paused = true }, 2},
		"the third":   {func(c *Config) { c.Targets[0].Headers = []Header{{Name: "A", Value: "b"}} }, 3},
		"both": {func(c *Config) {
			c.Paused, c.Targets[0].Headers = true, []Header{{Name: "A", ValueFile: "b"}, {Name: "B", Value: "b"}}
		}, 3},
	} {
		c := smallest()
		tc.change(&c)
		b, err := encode(c, later)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(b)
		if err != nil || got.Version != tc.want {
			t.Errorf("%s: format %d, %v; want %d", name, got.Version, err, tc.want)
		}
	}
}

// A receiver uses the known part of a newer operator's configuration, and reports the rest.
func TestDecodeOfANewerFormat(t *testing.T) {
	t.Parallel()
	b, err := Encode(largest())
	if err != nil {
		t.Fatal(err)
	}
	newer := strings.NewReplacer(
		fmt.Sprintf(`"version": %d`, Version), `"version": 99, "colour": {"red": [{"a": 1}]}`,
		`"timeout"`, `"timeOut": "1s", "timeout"`,
	).Replace(string(b))
	got, err := Decode([]byte(newer))
	if err != nil {
		t.Fatal(err)
	}
	want := largest().withDefaults()
	want.Version = 99
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	ignored := []string{"colour", "colour.red", "colour.red[].a", "targets[].timeOut"}
	if diff := cmp.Diff(ignored, Ignored([]byte(newer))); diff != "" {
		t.Errorf("ignored (-want +got):\n%s", diff)
	}
	if got := Ignored(b); len(got) != 0 {
		t.Errorf("of its own format it ignores %v", got)
	}
	for name, bad := range map[string]string{
		"a value that nobody knows":  strings.Replace(newer, `"format": "CloudEvents"`, `"format": "Protobuf"`, 1),
		"a member twice":             strings.Replace(newer, `"colour"`, `"version": 99, "colour"`, 1),
		"a name in another case":     strings.Replace(newer, `"redisURLFile"`, `"redisUrlFile"`, 1),
		"an unknown one of its own":  strings.Replace(newer, `"version": 99`, fmt.Sprintf(`"version": %d`, Version), 1),
		"what has another shape now": strings.Replace(newer, `"tokenFiles": [`, `"tokenFiles": 1, "x": [`, 1),
	} {
		if bad == newer {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if _, err := Decode([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
