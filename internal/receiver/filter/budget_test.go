package filter_test

import (
	"runtime"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/receiver/filter"
)

func enclosed(open, inner, closing string, n int) string {
	return strings.Repeat(open, n) + inner + strings.Repeat(closing, n)
}

// hostile are expressions of at most MaxLength bytes that take much memory or time to compile without a bound, with a
// part of the error, empty where they are harmless once bounded.
var hostile = map[string][2]string{
	"repetitions":                  {"event.type.matches('" + strings.Repeat("(a{1,1000})", 300) + "')", "longer than 1024 bytes"},
	"a repetition many times":      {"event.type.matches('" + strings.Repeat("(a{1,1000})", 90) + "')", "more than 1024 states"},
	"nested repetitions":           {"event.type.matches('(a{1,30}b{1,30}){20}')", "1:20: invalid matches argument: the regular expression needs more than 1024 states"},
	"a repeated class":             {`event.type.matches('(?i)(\\pL{100})')`, "more than 1024 states"},
	"many classes":                 {"event.type.matches('" + strings.Repeat(`\\pL`, 250) + "')", "more than 1024 states"},
	"a raw pattern":                {`event.type.matches(r'\pL{1000}')`, "more than 1024 states"},
	"matches as a function":        {"matches(event.type, 'a{1000}b{1000}')", "more than 1024 states"},
	"a converted pattern":          {"event.type.matches(string('" + strings.Repeat("(a{1,1000})", 90) + "'))", "more than 1024 states"},
	"a converted pattern, twice":   {"event.type.matches(string(string('" + strings.Repeat("(a{1,1000})", 90) + "')))", "more than 1024 states"},
	"many patterns":                {strings.Repeat("''.matches('(a{1,400}){1}')||", 130) + "true", "more than 4096 states together"},
	"a macro that copies":          {"optional.of(1)" + strings.Repeat(".optMap(x,x)", 40) + " == optional.none()", "nested or chained"},
	"a macro that copies its copy": {"optional.of([" + strings.Repeat("1,", 1000) + "1])" + strings.Repeat(".optMap(x,x)", 5) + " == optional.none()", "more than 2048 parts"},
	"chained loops":                {"[1]" + strings.Repeat(".map(x,[x])", 60) + " == []", "nested or chained"},
	"nested loops":                 {strings.Repeat("[1].all(x,", 20) + "true" + strings.Repeat(")", 20), "nested or chained"},
	"nested lists":                 {enclosed("[", "1", "]", 60) + " == []", "nested more than 8 deep"},
	"nested maps":                  {enclosed("{'a':", "1", "}", 60) + " == {}", "nested more than 8 deep"},
	"messages":                     {strings.Repeat("google.protobuf.Struct{fields:{'a':1}}==1||", 90) + "true", "messages cannot be created"},
	"messages of unknown types":    {strings.Repeat("a.b.c.d{}||", 370) + "true", "messages cannot be created"},
	"a long list":                  {"1 in [" + strings.Repeat("1,", 2000) + "1]", ""},
	"a mixed list":                 {"1 in [" + strings.Repeat("1,'',", 800) + "1]", ""},
	"many operators":               {strings.Repeat("1 in[1]||", 380) + "true", ""},
	"many mistakes":                {strings.Repeat("a()||", 800) + "true", "undeclared reference"},
	"many syntax errors":           {strings.Repeat("@", 4000), "token recognition error"},
	"open brackets":                {strings.Repeat("[", 4000), "recursion"},
	"a long literal":               {"event.type == '" + strings.Repeat("a", 4000) + "'", ""},
	"long alternatives":            {"event.type.matches('" + strings.Repeat("ab|", 300) + "c')", ""},
}

// It measures allocations, so it does not run in parallel.
func TestCompilingTakesABoundedAmountOfMemory(t *testing.T) { //nolint:paralleltest // what others allocate counts as well
	const most = 64 << 20 // all that is allocated, most of which is garbage soon
	if err := filter.Check("true", filter.Wanted); err != nil {
		t.Fatal(err)
	}
	for name, tt := range hostile {
		if len(tt[0]) > filter.MaxLength {
			t.Fatalf("%s has %d bytes", name, len(tt[0]))
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := filter.Check(tt[0], filter.Wanted)
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > most {
			t.Errorf("%s: compiling took %d MiB, want at most %d", name, took>>20, most>>20)
		} else {
			t.Logf("%s: %.1f MiB", name, float64(took)/(1<<20))
		}
		switch {
		case tt[1] == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tt[1] != "" && (err == nil || !strings.Contains(err.Error(), tt[1])):
			t.Errorf("%s: Check = %v, want %q in it", name, err, tt[1])
		}
	}
}

func TestCheckRemembersItsAnswers(t *testing.T) { //nolint:paralleltest // what others allocate counts as well
	for _, expression := range []string{`event.type == "remembered"`, `event.data.text.matches("remembered(")`} {
		first := filter.Check(expression, filter.Wanted)
		var again error
		allocations := testing.AllocsPerRun(10, func() { again = filter.Check(expression, filter.Wanted) })
		if allocations > 5 {
			t.Errorf("Check(%s) allocates %v times when asked again, want no compilation", expression, allocations)
		}
		if (first == nil) != (again == nil) || first != nil && first.Error() != again.Error() {
			t.Errorf("Check(%s) = %v, then %v", expression, first, again)
		}
	}
}

func TestPatternsOfEventsAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 100_000)
	for _, tt := range []struct{ expression, text, pattern, want string }{
		{`event.data.text.matches(event.data.pattern)`, "abc", "^a.c$", ""},
		{`matches(event.data.text, event.data.pattern)`, "abc", "^a.c$", ""},
		{`event.data.text.matches(event.data.pattern)`, "abc", strings.Repeat("(a{1,1000})", 90), "is not a constant cannot be used"},
		{`event.data.text.matches(event.data.pattern)`, "abc", long, "is not a constant cannot be used"},
		{`event.data.text.matches(event.data.pattern)`, "abc", "(", "is not a constant cannot be used"},
		{`event.data.text.matches(event.data.pattern + "{1,9}{1,200}")`, "abc", "(a)", "is not a constant cannot be used"},
		{`event.data.text.matches(event.data.pattern)`, long, "a{1,400}b", "costs more than"},
		{`event.data.text.matches("(a{1,400})b")`, long, "", "costs more than"},
		{`["a","b","c","d","e","f","g","h"].map(x, event.data.text + x).all(t, event.data.l.all(i, !t.matches("(a{1,400})b")))`, long[:400], "", "costs more than"},
	} {
		body := `{"event_data":{"text":"` + tt.text + `","pattern":"` + tt.pattern + `","l":[1,2,3,4,5,6,7,8]}}`
		got, err := compile(t, tt.expression, filter.Wanted).Wants(t.Context(), &filter.Event{Body: []byte(body)})
		switch {
		case tt.want == "" && (err != nil || !got):
			t.Errorf("%.60s by %.20q = %v, %v; want true", tt.expression, tt.pattern, got, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%.60s by %.20q = %v, %v; want %q", tt.expression, tt.pattern, got, err, tt.want)
		}
	}
}

func TestListsThatDoubleAreBounded(t *testing.T) {
	t.Parallel()
	p, err := filter.Compile("[[1]]"+strings.Repeat(".map(x, x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x)", 6)+".all(x, x == x)", filter.Wanted)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wants(t.Context(), message()); err == nil || !strings.Contains(err.Error(), "costs more than") {
		t.Errorf("Wants = %v, want it to cost too much", err)
	}
}
