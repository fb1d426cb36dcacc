package watchtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// User is who the server takes every client for.
const User = "system:serviceaccount:watcher:watcher"

// The API server's own words.
const (
	expiredList     = "The resourceVersion for the provided list is too old."
	expiredContinue = "The provided continue parameter is too old to display a consistent list result. You can start a new list without " +
		"the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided " +
		"token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned " +
		"and now may show up in the list."
)

// NewStatus is a failure in the API server's form.
func NewStatus(code int, reason metav1.StatusReason, message string) *metav1.Status {
	return &metav1.Status{Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message}
}

// TooLarge is the answer to a resourceVersion that the server has not reached: it lags, or it was rewound.
func TooLarge(asked, current uint64) *metav1.Status {
	err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", asked, current), 1)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{
		{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"},
	}
	return &err.ErrStatus
}

func expiredStatus(message string) *metav1.Status {
	return &apierrors.NewResourceExpired(message).ErrStatus
}

func invalidStatus(field, message string) *metav1.Status {
	status := NewStatus(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid,
		fmt.Sprintf("ListOptions.meta.k8s.io \"\" is invalid: %s: Forbidden: %s", field, message))
	status.Details = &metav1.StatusDetails{Group: "meta.k8s.io", Kind: "ListOptions", Causes: []metav1.StatusCause{
		{Type: metav1.CauseTypeForbidden, Field: field, Message: "Forbidden: " + message},
	}}
	return status
}

// forbidden is the authorizer's answer to the request.
func forbidden(q *Request, r Resource) *metav1.Status {
	where := "at the cluster scope"
	if q.Namespace != "" {
		where = fmt.Sprintf("in the namespace %q", q.Namespace)
	}
	why := fmt.Sprintf("User %q cannot %s resource %q in API group %q %s", User, q.Verb, r.Name, r.Group, where)
	if r.Name == "" {
		why = fmt.Sprintf("User %q cannot get path %q", User, q.Path)
	}
	return &apierrors.NewForbidden(schema.GroupResource{Group: r.Group, Resource: r.Name}, q.Name, errors.New(why)).ErrStatus
}

func notFound(r Resource, name string) *metav1.Status {
	return &apierrors.NewNotFound(schema.GroupResource{Group: r.Group, Resource: r.Name}, name).ErrStatus
}

func statusJSON(status *metav1.Status) []byte {
	out := status.DeepCopy()
	out.Kind, out.APIVersion = "Status", "v1"
	raw, _ := json.Marshal(out) // a Status always marshals
	return raw
}

// writeStatus answers a request with a failure.
func writeStatus(w http.ResponseWriter, status *metav1.Status) {
	if d := status.Details; d != nil && d.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(d.RetryAfterSeconds)))
	}
	writeBody(w, int(status.Code), "application/json", statusJSON(status))
}

func writeBody(w http.ResponseWriter, code int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-cache, private")
	w.WriteHeader(code)
	_, _ = w.Write(body) // the client may be gone; that is its affair
}
