package archtest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestModule(t *testing.T) {
	t.Parallel()
	files, err := loadModule("../..")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			for _, violation := range rule.check(files) {
				t.Error(violation)
			}
		})
	}
}
