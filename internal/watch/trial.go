package watch

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A trial is the reading of one resource in one namespace, once.
type trial struct {
	*preflight
	Reading
	found     Found
	src       *source
	forbidden []string // verbs
	problems  []Problem
	unasked   error // why permissions could not be asked for
	usage     error
}

// try does what a stream does: it lists, watches, and reads at a version of the past.
func (t *trial) try(ctx context.Context) {
	if !t.Served {
		t.unserved()
		return
	}
	t.permission(ctx, "list", &t.List)
	if !t.Once {
		t.permission(ctx, "watch", &t.Watch)
	}
	version := ""
	if t.List != No {
		version = t.list(ctx)
	}
	if version != "" && !t.Once {
		if t.Watch != No {
			t.watch(ctx, version)
		}
		t.exact(ctx, version)
	}
	if len(t.forbidden) > 0 {
		is := map[bool]string{false: "is", true: "are"}[len(t.forbidden) > 1]
		t.problem(Error, fmt.Sprintf("%s %s forbidden %s", strings.Join(t.forbidden, " and "), is, t.where()), t.permit())
	}
}

// unserved reports a resource that Run would wait for.
func (t *trial) unserved() {
	severity, mend := Warning, "kubectl get apiservices"
	if t.Once {
		severity = Error
	}
	if errors.As(t.found.Unserved, new(*pendingError)) {
		mend = "kubectl api-resources --api-group=" + t.found.Group
	}
	t.problem(severity, t.found.Unserved.Error(), mend)
}

func (t *trial) problem(s Severity, problem, mend string) {
	t.problems = append(t.problems, Problem{s, t.Resource, t.Namespace, problem, mend})
}

func (t *trial) where() string {
	switch {
	case !t.Namespaced:
		return "in the cluster"
	case t.Namespace == "":
		return "in all namespaces"
	default:
		return "in the namespace " + t.Namespace
	}
}

// permission asks whether it is there. A Yes waits for the real request.
func (t *trial) permission(ctx context.Context, verb string, answer *Answer) {
	var access struct{ Status struct{ Allowed bool } }
	res := t.src.res
	err := ask(ctx, review(t.Client.api, "authorization", "SelfSubjectAccessReview", map[string]any{
		"resourceAttributes": map[string]any{
			"namespace": t.Namespace, "verb": verb, "group": res.Group, "version": res.Version, "resource": res.Resource, "name": t.SelectedName(),
			"fieldSelector": selector(t.FieldSelector), "labelSelector": selector(t.LabelSelector),
		}}), &access)
	switch {
	case err != nil:
		t.unasked = err
	case !access.Status.Allowed:
		*answer, t.forbidden = No, append(t.forbidden, verb)
	}
}

// selector is one as a review takes it: some permissions, such as a node's for its own pods, depend on it.
func selector(raw string) any {
	if raw == "" {
		return nil
	}
	return map[string]string{"rawSelector": raw}
}

// failed gives an error its meaning.
func (t *trial) failed(verb string, answer *Answer, err error) {
	*answer = No
	what, do := t.src.diagnose(err)
	switch classify(err) {
	case forbidden:
		t.forbidden = append(t.forbidden, verb)
	case refused:
		t.usage = &UsageError{t.Resource + ": " + complaint(what, do, err).Error()}
	default:
		t.problem(Error, what+": "+err.Error(), do)
	}
}

// list counts, and returns the list's version.
func (t *trial) list(ctx context.Context) string {
	l := t.src.list()
	for f, err := range l.items(ctx) {
		if err != nil {
			t.failed("list", &t.List, err)
			return ""
		}
		n := len(f.Object.Body)
		t.Objects++
		t.Bytes += n
		if t.Largest == nil || n > t.Largest.Bytes {
			t.Largest = &Largest{f.Object.Key(), n}
		}
		f.free()
	}
	t.List = Yes
	return l.version
}

const (
	// trialTimeout is more than silence: a proxy that holds a watch back until it ends must not pass for one that answers.
	trialTimeout = 2 * silence
	// trialPause is how long a watch must stay open to have been opened: one that failed looks like one that ends at once.
	trialPause = 200 * time.Millisecond
)

// watch opens a watch.
func (t *trial) watch(ctx context.Context, version string) {
	w, err := t.src.watch(ctx, version, trialTimeout)
	if err == nil {
		defer w.Stop()
		select {
		case e, open := <-w.ResultChan():
			if status, ok := e.Object.(*metav1.Status); ok {
				err = apierrors.FromObject(status)
			} else if !open {
				err = errEmpty
			}
		case <-time.After(trialPause):
		case <-ctx.Done():
		}
	}
	switch {
	case err == nil:
		t.Watch = Yes
	case errors.Is(err, errSilent), errors.Is(err, errEmpty):
		t.Watch = No
		t.problem(Error, fmt.Sprintf("a watch gets no answer: %v", err), "let what is in front of the API server pass answers on as they come, without a buffer")
	default:
		t.failed("watch", &t.Watch, err)
	}
}

// exact asks for the version before the list's: who does not mind which version was asked for answers with another.
func (t *trial) exact(ctx context.Context, version string) {
	n, err := strconv.ParseUint(version, 10, 64)
	if err != nil || n < 2 {
		return // nothing came before
	}
	at := strconv.FormatUint(n-1, 10)
	_, err = t.src.at(ctx, at)
	// That it has forgotten the version, or has not reached it, is an honest answer.
	if err == nil || classify(err) == expired || hasCause(err, metav1.CauseTypeResourceVersionTooLarge) {
		t.Exact = Yes
		return
	}
	t.Exact = No
	t.problem(Warning, fmt.Sprintf("a LIST at version %s (resourceVersionMatch=Exact) is not answered truly, so after a gap in this resource only the net change can be told: %v", at, err), "")
}
