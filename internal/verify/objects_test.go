package verify

import (
	"fmt"
	"hash/maphash"
	"testing"
)

// TestWhatCameAndWentIsForgotten: a log of years has few objects at a time, and need not say any position.
func TestWhatCameAndWentIsForgotten(t *testing.T) {
	o := objects{seed: maphash.MakeSeed(), byID: map[string]*record{}}
	for i := range 300_000 {
		c := change{id: fmt.Sprint("uid-", i), key: "shop/web", state: state{version: fmt.Sprint(1000 + 2*i), line: i}}
		o.put(c, true)
		c.version, c.gone = fmt.Sprint(1001+2*i), true
		o.check(4, "live", &c, true)
		o.put(c, true)
		o.bury(&c, true)
	}
	if len(o.byID) > 10 || len(o.touched) > 100 || len(o.ahead) > 1 || len(o.dead.young)+len(o.dead.old) > 2*mostGraves {
		t.Errorf("%d objects, %d touched, %d ahead, %d graves", len(o.byID), len(o.touched), len(o.ahead), len(o.dead.young)+len(o.dead.old))
	}
}
