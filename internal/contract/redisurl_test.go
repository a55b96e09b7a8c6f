package contract_test

import (
	"strings"
	"testing"

	"heymarket.dev/operator/internal/contract"
)

func TestCheckRedisURL(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"redis://redis:6379", "rediss://user:p%40ss%2F@redis.example.com:6380/1",
		"redis://[2001:db8::1]:6379?addr=other:6379", "redis://s1?addr=s2:26379&master_set=main&sentinel_password=p%25",
	} {
		if err := contract.CheckRedisURL(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, want := range map[string]string{
		"http://redis:6379":     "redis:// or rediss://",
		"unix:///run/redis":     "redis:// or rediss://",
		"redis://":              "no host",
		"redis://:secret@h:x":   "cannot be read",
		"redis://a:b%0D%0A@h":   "control character",
		"redis://a%00:b@h":      "control character",
		"redis://h/%0a":         "control character",
		"redis://h?addr=x%0d:1": "control character",
		"redis://h?sentinel_password=secret%0D%0ASET&master_set=m": "control character",
		"redis://h?client%7fname=x":                                "control character",
		"redis://h?addr=/run/redis":                                "addr",
		"redis://h?addr=:1":                                        "addr",
		"redis://h?" + strings.Repeat("addr=h:1&", 65):             "more than 64",
	} {
		err := contract.CheckRedisURL(bad)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", bad, err, want)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error repeats a part of it: %v", bad, err)
		}
	}
}
