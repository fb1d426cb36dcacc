package watch

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	"go.uber.org/zap"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// A verdict says what an error of the API server, or of the way to it, means for a stream.
type verdict uint8

const (
	// retry: the network, a restart, too much load, credentials that are being renewed. Go on where we were.
	retry verdict = iota
	// expired: the API server has forgotten what came after the position. Only a repair can close the gap.
	expired
	// forbidden: the permission is missing. It may be given, or given back; it concerns this stream alone.
	forbidden
	// removed: the resource is not served, or the custom resource's definition is gone. Likewise.
	removed
	// undecodable: a frame is no watch event. Once it is noise on the line, twice at one place it is a gap.
	undecodable
	// refused: the request itself is wrong (a field selector that the resource does not know), so it always will be.
	refused
)

var (
	// errClosed ends a watch that delivered something: API servers restart, proxies cut.
	errClosed = errors.New("the watch was closed")
	// errEmpty ends a watch that was opened and delivered nothing: one face of expiry, or no server behind the proxy.
	errEmpty = errors.New("the watch was closed without a single frame")
	// errIdle ends a watch whose bookmarks stopped: a connection that is half open says nothing for ever.
	errIdle = errors.New("no frame and no bookmark for " + idleTimeout.String())
	// errUnpaged ends a LIST that cannot be gone on with.
	errUnpaged = errors.New("a list without pages broke off")
	// errOverdue ends a watch that the API server should have ended itself.
	errOverdue = errors.New("the API server did not end the watch when it was due")
)

// classify is the one place where errors get their meaning.
func classify(err error) verdict {
	var code int32
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		code = status.Status().Code
	}
	switch {
	case apierrors.IsResourceExpired(err), code == http.StatusGone, errors.Is(err, errUnpaged): // old servers: Gone
		return expired
	case hasCause(err, "ClientWatchDecoding"): // client-go's mark for a frame that its decoder refused
		return undecodable
	case code == http.StatusForbidden:
		return forbidden
	case code == http.StatusNotFound:
		return removed
	case code == http.StatusBadRequest, code == http.StatusUnprocessableEntity, code == http.StatusNotAcceptable,
		code == http.StatusMethodNotAllowed:
		return refused
	case errors.As(err, new(resourceversion.InvalidResourceVersion)): // nothing could be put in order
		return refused
	default: // 401, 429, 5xx (504 with ResourceVersionTooLarge: a lagging server), time-outs, everything on the network
		return retry
	}
}

func hasCause(err error, t metav1.CauseType) bool {
	_, ok := apierrors.StatusCause(err, t)
	return ok
}

// diagnose says in words what happened and what to do about it.
func (s *source) diagnose(err error) (what, do string) {
	switch classify(err) {
	case expired:
		if errors.Is(err, errUnpaged) {
			return "a list without pages broke off, and begins again", ""
		}
		return "the API server has forgotten the position", ""
	case forbidden:
		do = fmt.Sprintf("grant list and watch on %s ('watcher rbac' prints how), or narrow the scope with -n NAMESPACE", s.res.Name())
		if s.sel.Namespace != "" {
			do = fmt.Sprintf("grant list and watch on %s in the namespace %s ('watcher rbac' prints how), or name another with -n", s.res.Name(), s.sel.Namespace)
		}
		return "permission is missing", do
	case removed:
		return "the resource is not served", ""
	case undecodable:
		return "a watch frame cannot be decoded", ""
	case refused:
		if apierrors.IsNotAcceptable(err) {
			return "the API server cannot leave the rest of the objects out", "use --payload full"
		}
		return "the API server refuses the request", "check --field-selector and --selector"
	}
	return diagnoseNetwork(err)
}

func diagnoseNetwork(err error) (what, do string) {
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the API server's certificate has expired or is not valid yet", "renew it, or set this machine's clock"
	case errors.As(err, new(x509.UnknownAuthorityError)), errors.As(err, new(x509.HostnameError)), errors.As(err, &invalid):
		return "the API server's certificate is not trusted", "check --certificate-authority and --server, or the kubeconfig"
	case apierrors.IsUnauthorized(err):
		return "the API server does not accept our credentials", "log in again: the token or client certificate may have expired"
	case apierrors.IsForbidden(err):
		return "what is served may not be asked", "log in, or grant the cluster role system:discovery"
	case apierrors.IsTooManyRequests(err), apierrors.IsServiceUnavailable(err):
		return "the API server has no capacity", ""
	case errors.Is(err, errEmpty), errors.Is(err, errIdle), errors.Is(err, errOverdue):
		return "the watch does not deliver", ""
	case apierrors.ReasonForError(err) != metav1.StatusReasonUnknown:
		return "the API server answers with an error", ""
	default:
		return "the API server cannot be reached", "check --server or the kubeconfig, and the network"
	}
}

// complaint is err with what it means and what to do about it.
func complaint(what, do string, err error) error {
	if do != "" {
		do = " (" + do + ")"
	}
	return fmt.Errorf("%s: %w%s", what, err, do)
}

// advised adds to the fields of a diagnostic what to do, if there is something.
func advised(do string, fields ...zap.Field) []zap.Field {
	if do == "" {
		return fields
	}
	return append(fields, zap.String("do", do))
}

// compare orders two versions of one resource. The error is an InvalidResourceVersion.
func compare(a, b string) (int, error) { return resourceversion.CompareResourceVersion(a, b) }

// newer reports whether a is a later version than b, which may be none.
func newer(a, b string) bool {
	if len(a) != len(b) || b == "" {
		return len(a) > len(b)
	}
	return a > b // of the same length: as numbers
}
