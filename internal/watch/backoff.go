package watch

import (
	"context"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// The bounds of a back-off are those of client-go's Reflector.
const (
	backoffMin = 800 * time.Millisecond
	backoffMax = 30 * time.Second
	// healthyAfter is how long a watch must have lived for the next failure to count as the first.
	healthyAfter = 2 * time.Minute
	// denialInterval is how often a missing permission or resource is looked for.
	denialInterval = time.Minute
)

// A backoff says how long to wait before the next try: 0.8 to 1.6 s at first, twice that each time, 15 to 30 s in the
// end. In its first minute it allows nine tries.
type backoff struct{ tries int }

func (b *backoff) next() time.Duration {
	most := backoffMax
	if b.tries < 5 {
		most = min(most, 2*backoffMin<<b.tries)
	}
	b.tries++
	return most/2 + rand.N(most/2)
}

func (b *backoff) reset() { b.tries = 0 }

// retryAfter is how long the API server asks to be left alone, or 0.
func retryAfter(err error) time.Duration {
	seconds, _ := apierrors.SuggestsClientDelay(err)
	return time.Duration(seconds) * time.Second
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
