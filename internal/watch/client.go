package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
)

// silence is how long the API server may leave a request unanswered, or pause in the middle of a LIST.
const silence = 30 * time.Second

var errSilent = errors.New("no answer within " + silence.String())

// A Client reads resources of one API server as raw bytes. It keeps client-go's transport, authentication and framing,
// and replaces the decoder. Any number of goroutines may use it.
type Client struct {
	config  rest.Config
	http    *http.Client
	limiter flowcontrol.RateLimiter
	api     rest.Interface // for all that is neither a LIST nor a watch
	frames  framePool
}

// NewClient returns a client for the API server that config names. Its LISTs, of all streams together, are kept to qps
// requests a second in bursts of burst; watches are not limited. It sends nothing yet.
func NewClient(config *rest.Config, qps float32, burst int) (*Client, error) {
	c := *rest.CopyConfig(config)
	c.Timeout = 0               // it would cut watches (kubernetes/kubernetes#23899)
	c.QPS = -1                  // 0 would mean 5 a second
	c.DisableCompression = true // gzip costs the API server six times the CPU of a watch
	h, err := rest.HTTPClientFor(&c)
	if err != nil {
		return nil, err
	}
	api, err := plain(c, h)
	if err != nil {
		return nil, err
	}
	return &Client{config: c, http: h, limiter: flowcontrol.NewTokenBucketRateLimiter(qps, burst), api: api}, nil
}

// plain returns a client for requests of any path.
func plain(c rest.Config, h *http.Client) (rest.Interface, error) {
	c.GroupVersion, c.NegotiatedSerializer = &schema.GroupVersion{}, statusCodecs.WithoutConversion()
	return rest.UnversionedRESTClientForConfigAndClient(&c, h)
}

// ask sends a request that is neither a LIST nor a watch, once, and decodes the answer.
func ask(ctx context.Context, q *rest.Request, answer any) error {
	result := q.MaxRetries(0).Timeout(silence).SetHeader("Content-Type", runtime.ContentTypeJSON).Do(ctx)
	if err := result.Error(); err != nil {
		return err
	}
	raw, err := result.Raw()
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, answer)
}

// A Payload says how much of an object an event carries.
type Payload string

// With all but PayloadFull the API server is asked for metadata only, so that the rest never enters the process.
const (
	PayloadFull     Payload = "full"
	PayloadMetadata Payload = "metadata"
	PayloadNone     Payload = "none"
)

// A Selection is which objects of a resource to read, and how much of each.
type Selection struct {
	Namespace                    string // "": all
	LabelSelector, FieldSelector string
	Payload                      Payload
	ManagedFields                bool
}

// mayLeave reports whether an object can stop matching the selectors while it exists: not if they ask for nothing but
// its name and namespace, which never change.
func (s Selection) mayLeave() bool {
	if s.LabelSelector != "" {
		return true
	}
	selector, err := fields.ParseSelector(s.FieldSelector)
	if err != nil {
		return true // the API server will refuse it
	}
	return slices.ContainsFunc(selector.Requirements(), func(r fields.Requirement) bool {
		return r.Field != "metadata.name" && r.Field != "metadata.namespace"
	})
}

// A source reads one resource with one selection.
type source struct {
	limiter flowcontrol.RateLimiter
	rest    *rest.RESTClient
	res     Resource
	sel     Selection
	cutter  cutter
	// protobuf says that LISTs of metadata may come in it. They are read no further than a repair compares them.
	protobuf bool
}

func (c *Client) source(res Resource, sel Selection) (*source, error) {
	s := &source{limiter: c.limiter, res: res, sel: sel, cutter: newCutter(res, sel, &c.frames)}
	config := c.config
	config.APIPath = "/apis"
	if res.Group == "" {
		config.APIPath = "/api"
	}
	gv := res.GroupVersion()
	config.GroupVersion = &gv
	config.ContentType = runtime.ContentTypeJSON
	config.NegotiatedSerializer = negotiator{statusCodecs.WithoutConversion(), s.cutter}
	var err error
	if s.rest, err = rest.RESTClientForConfigAndClient(&config, c.http); err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", res.Name(), err)
	}
	return s, nil
}

// watch opens a watch after version rv. Its objects are *frames, but for *metav1.Status in ERROR events; a decoding error
// comes as an ERROR too. This is client-go's own Watch: an unreachable server may look like a watch that closes at once.
func (s *source) watch(ctx context.Context, rv string, timeout time.Duration) (watch.Interface, error) {
	seconds := int64(timeout / time.Second)
	ctx, cancel := context.WithCancel(ctx)
	unanswered := time.AfterFunc(silence, cancel)
	w, err := s.request(metav1.ListOptions{Watch: true, ResourceVersion: rv, AllowWatchBookmarks: true, TimeoutSeconds: &seconds}).Watch(ctx)
	if !unanswered.Stop() {
		if err == nil {
			w.Stop()
		}
		err = errSilent
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watch %s at %s: %w", s.res.Name(), rv, err)
	}
	return &cancelledWatch{w, cancel}, nil
}

// A cancelledWatch frees its context when it is stopped.
type cancelledWatch struct {
	watch.Interface
	cancel context.CancelFunc
}

func (w *cancelledWatch) Stop() {
	w.cancel()
	w.Interface.Stop()
}

// request prepares a LIST or a watch. Nobody retries it out of our sight: client-go would, ten times.
func (s *source) request(o metav1.ListOptions) *rest.Request {
	o.LabelSelector, o.FieldSelector = s.sel.LabelSelector, s.sel.FieldSelector
	accept := runtime.ContentTypeJSON
	if s.sel.Payload != PayloadFull {
		kind := "PartialObjectMetadataList"
		if o.Watch {
			kind = "PartialObjectMetadata"
		}
		// Without a plain application/json behind it: a server that cannot leave the rest out is to say so.
		as := ";as=" + kind + ";g=meta.k8s.io;v=v1"
		accept += as
		if s.protobuf {
			accept = runtime.ContentTypeProtobuf + as + "," + accept
		}
	}
	return s.rest.Get().
		NamespaceIfScoped(s.sel.Namespace, s.sel.Namespace != "").
		Resource(s.res.Resource).
		SpecificallyVersionedParams(&o, metav1.ParameterCodec, schema.GroupVersion{Version: "v1"}).
		SetHeader("Accept", accept).
		MaxRetries(0)
}
