package contract

import (
	"slices"
	"strings"
	"testing"
)

func TestClassesOfStatuses(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]ErrorClass{
		299: ErrorOther, 300: ErrorRedirect, 399: ErrorRedirect, 400: ErrorRejected, 401: ErrorUnauthorized, 402: ErrorRejected, 403: ErrorUnauthorized,
		404: ErrorNotFound, 407: ErrorUnauthorized, 408: ErrorRejected, 410: ErrorGone, 429: ErrorTooMany, 499: ErrorRejected, 500: ErrorServer, 599: ErrorServer,
		600: ErrorOther, 100: ErrorOther,
	} {
		if got := ClassOfStatus(status); got != want || !slices.Contains(ErrorClasses(), got) {
			t.Errorf("%d is %s, want %s", status, got, want)
		}
	}
}

// Each problem has a remedy, and the properties that decide how receivers handle it.
func TestProblems(t *testing.T) {
	t.Parallel()
	for p, kinds := range map[Problem]string{
		RedisUnreachable: "connection", RedisBlocked: "connection", RedisMalformed: "connection", RedisBadSettings: "connection", RedisUntrusted: "connection",
		RedisBadLogin: "node", RedisNoRights: "node", RedisLoading: "node", RedisReadOnly: "node", RedisNoPrimary: "node", RedisFewReplicas: "node",
		RedisOtherError: "", RedisFull: "", RedisCannotSave: "",
		RedisEvicts: "accepting", RedisForgets: "accepting", RedisTooOld: "accepting", RedisClockSkew: "accepting",
	} {
		if !p.Known() || !strings.Contains(p.Message(), ":") && !strings.Contains(p.Message(), ".") {
			t.Errorf("%s says %q", p, p.Message())
		}
		if p.OfConnection() != (kinds == "connection") || p.WrongNode() != (kinds == "node") || p.Accepting() != (kinds == "accepting") {
			t.Errorf("%s: of the connection %t, wrong node %t, accepting %t; want %q alone", p, p.OfConnection(), p.WrongNode(), p.Accepting(), kinds)
		}
	}
	if p := Problem("\x1b[31m"); p.Known() || p.Message() != "" || p.Accepting() {
		t.Error("what a Pod makes up is a problem")
	}
}

func TestProbeAnswer(t *testing.T) {
	t.Parallel()
	segment, nonce := strings.Repeat("a2", 13), strings.Repeat("n", 16)
	good := ProbeAnswer(segment, nonce)
	if len(good) != 64 || good == ProbeAnswer(segment, nonce+"x") || good == ProbeAnswer(strings.Repeat("b2", 13), nonce) || strings.Contains(good, segment) {
		t.Errorf("the answer is %q, which depends on segment and nonce and shows neither", good)
	}
	for _, other := range [][2]string{
		{segment[1:], nonce},
		{segment + "a", nonce},
		{"", nonce},
		{"A" + segment[1:], nonce},
		{segment[1:] + "1", nonce},
		{segment, nonce[1:]},
		{segment, strings.Repeat("n", 65)},
	} {
		if got := ProbeAnswer(other[0], other[1]); got != "" {
			t.Errorf("%q is answered %q by %q", other[1], got, other[0])
		}
	}
	if ProbeAnswer(segment, strings.Repeat("n", 64)) == "" {
		t.Error("the longest nonce is not answered")
	}
}

// The digest of a URL does not help to guess the password, and differs between URLs.
func TestRedisURLDigest(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("p", 32)
	digest := RedisURLDigest("redis://u:" + long + "@host:6379/0\n")
	if !strings.HasPrefix(digest, "sha256:") || len(digest) != len("sha256:")+16 || digest != RedisURLDigest("redis://u:"+long+"@host:6379/0") || digest == RedisURLDigest("redis://u:"+long+"p@host:6379/0") {
		t.Errorf("the digest is %q", digest)
	}
	for _, url := range []string{"redis://u:" + long[1:] + "@host:6379", "redis://host:6379", "redis://u@host", "://", "redis://u:%zz@host"} {
		if got := RedisURLDigest(url); got != "" {
			t.Errorf("%s has the digest %s", url, got)
		}
	}
	for text, want := range map[string]bool{" ": false, "a~b": false, "a\x1fb": true, "a\nb": true, "\x7f": true, "é": false} {
		if HasControl(text) != want {
			t.Errorf("%q has a control character: %t", text, !want)
		}
	}
}
