package event

import (
	"strconv"
	"strings"
	"testing"
)

func TestParseTrace(t *testing.T) {
	t.Parallel()
	const valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, tt := range []struct{ name, header, want string }{
		{"valid", valid, valid},
		{"not sampled", valid[:53] + "00", valid[:53] + "00"},
		{"a later version with more", "01" + valid[2:] + "-what-comes", valid},
		{"a later version, other flags", "cc" + valid[2:53] + "02", valid[:53] + "00"},
		{"a later version, flags by a letter", "cc" + valid[2:53] + "0a", valid[:53] + "00"},
		{"a later version, sampled by a letter", "cc" + valid[2:53] + "0b", valid},
		{"empty", "", ""},
		{"too short", valid[:54], ""},
		{"version 00 with more", valid + "-x", ""},
		{"a later version with more, not separated", "01" + valid[2:] + "x", ""},
		{"version ff", "ff" + valid[2:], ""},
		{"upper case", strings.ToUpper(valid), ""},
		{"no trace id", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", ""},
		{"no parent id", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", ""},
		{"another separator after the version", valid[:2] + "_" + valid[3:], ""},
		{"another separator after the trace id", valid[:35] + "_" + valid[36:], ""},
		{"another separator before the flags", valid[:52] + "_" + valid[53:], ""},
		{"other separators", strings.ReplaceAll(valid, "-", "_"), ""},
		{"a line break", valid[:54] + "\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := ParseTrace(tt.header)
			if got != tt.want || ok != (tt.want != "") {
				t.Errorf("ParseTrace(%q) = %q, %v; want %q", tt.header, got, ok, tt.want)
			}
		})
	}
}

func TestContinueTrace(t *testing.T) {
	t.Parallel()
	const came = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	if got := ContinueTrace(came); got != came {
		t.Errorf("ContinueTrace changed %q to %q", came, got)
	}
	seen := map[string]bool{}
	for range 100 {
		made := ContinueTrace("nonsense")
		if got, ok := ParseTrace(made); !ok || got != made || seen[made] || !strings.HasSuffix(made, "-01") {
			t.Fatalf("made %q; want a new valid traceparent that is sampled", made)
		}
		seen[made] = true
	}
}

func FuzzParseTrace(f *testing.F) {
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	f.Add("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02-more")
	f.Fuzz(func(t *testing.T, header string) {
		got, ok := ParseTrace(header)
		if !ok {
			if got != "" {
				t.Errorf("ParseTrace(%q) = %q, false", header, got)
			}
			return
		}
		if again, ok := ParseTrace(got); !ok || again != got || len(got) != traceLength {
			t.Errorf("ParseTrace(%q) = %q, which is not valid itself", header, got)
		}
	})
}

func TestTraceStateAndBaggage(t *testing.T) {
	t.Parallel()
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	list := func(n, size int) string {
		members := make([]string, n)
		for i := range members {
			name := "k" + strconv.Itoa(i) + "="
			members[i] = name + strings.Repeat("v", size-len(name))
		}
		return strings.Join(members, ",")
	}
	for _, tc := range []struct {
		name           string
		headers        []string
		state, baggage string
	}{
		{"none", nil, "", ""},
		{"empty", []string{"", " , "}, "", ""},
		{"one", []string{"rojo=00f067aa0ba902b7"}, "rojo=00f067aa0ba902b7", "rojo=00f067aa0ba902b7"},
		{"several headers, with blanks", []string{"a=1 ,\tb=2;p=3", "c@d=e/f"}, "a=1,b=2;p=3,c@d=e/f", "a=1,b=2;p=3,c@d=e/f"},
		{"no member", []string{"a=1,b"}, "", ""},
		{"no name", []string{"=1"}, "", ""},
		{"a control character", []string{"a=1\x01"}, "", ""},
		{"every character that may be", []string{"a= ~"}, "a= ~", "a= ~"},
		{"exactly as long as may be", []string{list(1, maxTraceStateBytes)}, list(1, maxTraceStateBytes), list(1, maxTraceStateBytes)},
		{"a byte too long", []string{list(1, maxTraceStateBytes+1)}, "", list(1, maxTraceStateBytes+1)},
		{"two that are exactly as long as may be", []string{"a=1", list(1, maxTraceStateBytes-4)}, "a=1," + list(1, maxTraceStateBytes-4), "a=1," + list(1, maxTraceStateBytes-4)},
		{"two that are a byte too long", []string{"a=1", list(1, maxTraceStateBytes-3)}, "a=1", "a=1," + list(1, maxTraceStateBytes-3)},
		{"letters of another alphabet", []string{"a=\u00e9"}, "", ""},
		{"as many as may be", []string{list(32, 15)}, list(32, 15), list(32, 15)},
		{"too many", []string{list(65, 7)}, list(32, 7), list(64, 7)},
		{"too long", []string{list(20, 100)}, list(5, 100), list(20, 100)},
		{"much too long", []string{list(60, 200)}, list(2, 200), list(40, 200)},
		{"one that is too long", []string{"a=" + strings.Repeat("v", 9000)}, "", ""},
	} {
		if got := TraceState(parent, tc.headers); got != tc.state || len(got) > maxTraceStateBytes {
			t.Errorf("%s: tracestate %q, want %q", tc.name, got, tc.state)
		}
		if got := Baggage(tc.headers); got != tc.baggage || len(got) > maxBaggageBytes {
			t.Errorf("%s: baggage %q, want %q", tc.name, got, tc.baggage)
		}
	}
	if got := TraceState("nonsense", []string{"a=1"}); got != "" {
		t.Errorf("the tracestate of no trace is %q", got)
	}
}
