package figure

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPrint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		goal   Goal
		values []float64
		want   string
		ok     bool
	}{
		{AtLeast(2), []float64{2.31, 1.98, 2.13}, "figure name=x median=2.130 min=1.980 max=2.310 n=3 unit=ratio goal=>=2 ok=true\n", true},
		{AtLeast(2.5), []float64{2, 3, 1, 2}, "figure name=x median=2 min=1 max=3 n=4 unit=ratio goal=>=2.5 ok=false\n", false},
		{AtMost(0.5), []float64{0.25}, "figure name=x median=0.250 min=0.250 max=0.250 n=1 unit=ratio goal=<=0.5 ok=true\n", true},
		{AtMost(0), []float64{1}, "figure name=x median=1 min=1 max=1 n=1 unit=ratio goal=<=0 ok=false\n", false},
		{Goal{}, []float64{12345.6, 98.76}, "figure name=x median=6222 min=98.8 max=12346 n=2 unit=ratio\n", true},
	} {
		var out bytes.Buffer
		require.Equal(t, c.ok, Print(&out, "x", "ratio", c.goal, c.values...))
		require.Equal(t, c.want, out.String())
	}
}
