package watchtest

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
)

// client-go's metadata client prefers protobuf: it reads the same from both kinds of servers.
func TestMetadataInProtobufIsWhatClientGoReads(t *testing.T) {
	for _, onlyJSON := range []bool{false, true} {
		bubble(t, []Resource{Pods}, func(t *testing.T, s *Server, c client) {
			for _, name := range []string{"x", "y", "z"} {
				s.Create(Pods, "a/"+name, Labels("app", name), Meta("managedFields", `[{"manager":"m","operation":"Update","time":"2000-01-01T00:00:00Z"}]`))
			}
			if onlyJSON {
				s.OnlyJSON()
			}
			const as = ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
			resp, body, err := c.get(Pods.Path("a"), "application/vnd.kubernetes.protobuf"+as+",application/json"+as)
			if err != nil || strings.HasPrefix(body, "k8s\x00") == onlyJSON || strings.HasSuffix(resp.Header.Get("Content-Type"), "protobuf") == onlyJSON {
				t.Errorf("only JSON %t: %v %.100q %v", onlyJSON, resp.Header, body, err)
			}
			mc, err := metadata.NewForConfig(c.cfg)
			if err != nil {
				t.Fatal(err)
			}
			l, err := mc.Resource(schema.GroupVersionResource{Version: Pods.Version, Resource: Pods.Name}).List(t.Context(), metav1.ListOptions{Limit: 2})
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprint(l.ResourceVersion, " ", l.Continue != "", " ", *l.RemainingItemCount)
			for _, o := range l.Items {
				got += fmt.Sprint(" ", o.Namespace, "/", o.Name, " ", o.UID, " ", o.ResourceVersion, " ", o.Labels, " ", o.ManagedFields[0].Manager)
			}
			if want := "103 true 1 a/x 00000000-0000-4000-8000-000000000001 101 map[app:x] m a/y 00000000-0000-4000-8000-000000000002 102 map[app:y] m"; got != want {
				t.Errorf("only JSON %t:\n got %s\nwant %s", onlyJSON, got, want)
			}
		})
	}
}
