package stream

import (
	"crypto/tls"
	"errors"
	"regexp"

	"github.com/redis/rueidis"

	"heymarket.dev/operator/internal/contract"
)

// settingsError reports a URL or certificates that cannot be used, regardless of the state of Redis.
type settingsError struct{ text string }

func (e settingsError) Error() string { return e.text }

// codes are the error codes of Redis that have the same meaning for every command.
var codes = map[string]contract.Problem{
	"OOM":         contract.RedisFull,
	"MISCONF":     contract.RedisCannotSave,
	"NOREPLICAS":  contract.RedisFewReplicas,
	"NOPERM":      contract.RedisNoRights,
	"READONLY":    contract.RedisReadOnly,
	"MASTERDOWN":  contract.RedisNoPrimary,
	"CLUSTERDOWN": contract.RedisNoPrimary,
	"LOADING":     contract.RedisLoading,
	"NOAUTH":      contract.RedisBadLogin,
	"WRONGPASS":   contract.RedisBadLogin,
}

// Scripts include the code somewhere in their own error.
var code = regexp.MustCompile(`\b(OOM|MISCONF|NOREPLICAS|NOPERM|READONLY|MASTERDOWN|CLUSTERDOWN|LOADING|NOAUTH|WRONGPASS)\b`)

// noRights matches the errors for a forbidden command in a script, which have no code: those of Redis 7.0, and those of Redis 8
// and Valkey.
var noRights = regexp.MustCompile(`(?i)user executing the script can't|ACL failure in script`)

// Problem returns the problem that an error of this package stands for; "" if there is none.
func Problem(err error) contract.Problem {
	var (
		answer   *rueidis.RedisError
		settings settingsError
		tlsError *tls.CertificateVerificationError
	)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &answer):
		if p, known := codes[code.FindString(answer.Error())]; known {
			return p
		}
		if noRights.MatchString(answer.Error()) {
			return contract.RedisNoRights
		}
		return contract.RedisOtherError
	case errors.As(err, &settings):
		return contract.RedisBadSettings
	case errors.Is(err, errBlocked):
		return contract.RedisBlocked
	case errors.Is(err, errMalformed):
		return contract.RedisMalformed
	case errors.As(err, &tlsError):
		return contract.RedisUntrusted
	}
	return contract.RedisUnreachable
}
