package ingest

import (
	"net/http/httptest"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/contract"
)

// A probe is answered by the keys of the paths below its prefix, and is no event. What is no probe is refused as any other path.
func TestProbe(t *testing.T) {
	t.Parallel()
	current, previous, other := strings.Repeat("c", 26), strings.Repeat("p", 26), strings.Repeat("o", 26)
	const nonce = "0123456789abcdef"
	seen := make(reports, 10)
	s := settings()
	s.Paths = []string{"/staging/support/" + current, "/staging/support/" + previous, "/staging/other/" + other, "/hook"}
	store := &fakeStore{}
	h := NewHandler(store, seen, s)
	cases := map[string]string{
		"POST /staging/support/heymarket-probe?nonce=" + nonce:                   contract.ProbeAnswer(current, nonce) + "\n" + contract.ProbeAnswer(previous, nonce) + "\n",
		"POST /staging/other/heymarket-probe?nonce=" + nonce:                     contract.ProbeAnswer(other, nonce) + "\n",
		"POST /staging/heymarket-probe?nonce=" + nonce:                           "",
		"POST /heymarket-probe?nonce=" + nonce:                                   "", // the path beside it is no secret of the operator's
		"POST /staging/support/heymarket-probe":                                  "",
		"POST /staging/support/heymarket-probe?nonce=short":                      "",
		"POST /staging/support/heymarket-probe/?nonce=" + nonce:                  "",
		"POST /staging/support/heymarket-probe?nonce=" + strings.Repeat("n", 65): "",
	}
	for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "post"} {
		cases[method+" /staging/support/heymarket-probe?nonce="+nonce] = ""
	}
	for target, want := range cases {
		method, url, _ := strings.Cut(target, " ")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, url, strings.NewReader(message)))
		switch {
		case want != "" && (w.Code != 200 || w.Body.String() != want || len(seen) != 0):
			t.Errorf("%s: %d %q, and %d requests counted", target, w.Code, w.Body, len(seen))
		case want == "":
			if w.Code != 404 || len(seen) != 1 {
				t.Errorf("%s: %d, and %d requests counted; want 404", target, w.Code, len(seen))
				continue
			}
			<-seen
		}
	}
	if len(store.kept) != 0 {
		t.Error("a probe was stored")
	}
	if a := contract.ProbeAnswer(current, nonce); a == contract.ProbeAnswer(current, nonce+"x") || a == contract.ProbeAnswer(previous, nonce) || strings.Contains(a, current) {
		t.Errorf("the answer %q does not depend on nonce and segment", a)
	}
}
