package stream

import "testing"

// The answers of each version when a script lacks a right, recorded from the versions themselves. `make redis-versions` records
// them again.
func TestAMissingRightIsRecognised(t *testing.T) {
	t.Parallel()
	for version, answer := range map[string]string{
		"Redis 7.0":           "The user executing the script can't run this command or subcommand script: f1a2, on @user_script:7.",
		"Redis 8, Valkey 8.0": "ACL failure in script: User tenant has no permissions to run the 'scan' command script: f1a2, on @user_script:7.",
	} {
		if !noRights.MatchString(answer) {
			t.Errorf("%s: %q is not recognised", version, answer)
		}
	}
	if noRights.MatchString("value is not an integer or out of range script: f1a2, on @user_script:7.") {
		t.Error("another error is taken for a missing right")
	}
}
