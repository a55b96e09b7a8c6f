package config

import (
	"strings"
	"testing"
)

func TestConfidential(t *testing.T) {
	t.Parallel()
	var c Confidential
	c.AddToken([]byte("long-verification-token\n"))
	c.AddToken([]byte("short"))
	c.AddToken([]byte(" \n"))
	c.AddToken([]byte(strings.Repeat("x", MaxHeaderBytes+1)))
	c.AddRedisURL("redis://user:a-password@redis:6379/0")
	c.AddPath("/staging/support/abcdefghijklmnopqrstuvwxyz")
	c.AddPath("/hook")
	for value, want := range map[string]string{
		"long-verification-token":                  "a verification token",
		"redis://user:a-password@redis:6379/0?x=y": "the URL of Redis",
		"short":                                "a verification token",
		"redis://user:a-password@redis:6379/0": "the URL of Redis",
		"a-password":                           "the password of Redis",
		"abcdefghijklmnopqrstuvwxyz":           "the secret part",
		"https://h/staging/support/abcdefghijklmnopqrstuvwxyz": "the secret part",
	} {
		if err := c.Check([]byte(value)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), value) {
			t.Errorf("%q: %v, want %q and no part of the value", value, err, want)
		}
	}
	if err := c.Check([]byte(" long-verification-token\r\n")); err == nil {
		t.Error("a token with white space around it was accepted")
	}
	for _, value := range []string{"", "Bearer long-verification-token", "shorter", "a short value", "hook", "another-token", "xx"} {
		if err := c.Check([]byte(value)); err != nil {
			t.Errorf("%q: %v, want no error", value, err)
		}
	}
}
