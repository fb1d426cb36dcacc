package watch

import (
	"context"
	"errors"
	"iter"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"watcher/internal/event"
)

// At yields the objects of res that existed at a version, cut as a stream cuts them. The body of one is valid until the
// next is asked for. An error ends it and is yielded last; nothing is tried twice, since the API server forgets meanwhile.
func (c *Client) At(ctx context.Context, res Resource, sel Selection, version string) iter.Seq2[event.Object, error] {
	return func(yield func(event.Object, error) bool) {
		src, err := c.source(res, sel)
		if err != nil {
			yield(event.Object{}, err)
			return
		}
		for f, err := range src.listAt(version).items(ctx) {
			if err != nil {
				yield(event.Object{}, src.unlisted(err, version))
				return
			}
			more := yield(f.Object, nil)
			f.free()
			if !more {
				return
			}
		}
	}
}

// unlisted says what it means that a version could not be listed.
func (s *source) unlisted(err error, version string) error {
	switch what, do := s.diagnose(err); {
	case errors.Is(err, errInexact):
		return err
	case classify(err) == expired:
		return complaint("etcd has forgotten version "+version+", it keeps 5 to 10 minutes", "", err)
	case hasCause(err, metav1.CauseTypeResourceVersionTooLarge):
		return complaint("the API server has not reached version "+version, "is it the cluster that the log is of, and was it restored from a backup?", err)
	default:
		return complaint(what, do, err)
	}
}
