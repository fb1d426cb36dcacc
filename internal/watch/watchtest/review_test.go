package watchtest

import (
	"net/http"
	"testing"
	"time"
)

// TestClientsLearnWhoTheyAreAndWhatIsForbidden asks as `kubectl auth` does.
func TestClientsLearnWhoTheyAreAndWhatIsForbidden(t *testing.T) {
	bubble(t, []Resource{Pods, Deployments}, func(t *testing.T, s *Server, c client) {
		ask := func(path, body string) string {
			result := c.rest(Pods).Post().AbsPath(path).Body([]byte(body)).MaxRetries(0).Do(t.Context())
			raw, err := result.Raw()
			if err != nil {
				return err.Error()
			}
			return string(raw)
		}
		const mayI = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
		s.Forbid(Deployments, "watch")
		for body, allowed := range map[string]string{
			`{"verb":"watch","group":"apps","version":"v1","resource":"deployments","namespace":"shop","name":"web"}`: "false",
			`{"verb":"list","group":"apps","version":"v1","resource":"deployments"}`:                                  "true",
			`{"verb":"watch","version":"v1","resource":"pods"}`:                                                       "true",
		} {
			if got := ask(mayI, `{"spec":{"resourceAttributes":`+body+`}}`); got != `{"status":{"allowed":`+allowed+`}}` {
				t.Errorf("%s: %s", body, got)
			}
		}
		if got := ask("/apis/authentication.k8s.io/v1/selfsubjectreviews", `{}`); got != `{"status":{"userInfo":{"username":"`+User+`"}}}` {
			t.Error(got)
		}
		if got := s.Asked(); len(got) != 3 || s.Count(Reviews()) != 4 {
			t.Errorf("%d reviews, of them %q", s.Count(Reviews()), got)
		}
	})
}

func TestTheClockOfTheServerIsSkewed(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Server, c client) {
		for _, skew := range []time.Duration{0, time.Hour, -time.Hour} {
			s.SkewClock(skew)
			resp, _, err := c.get("/version", "")
			if err != nil {
				t.Fatal(err)
			}
			if got, want := resp.Header.Get("Date"), time.Now().Add(skew).UTC().Format(http.TimeFormat); got != want {
				t.Errorf("%v: %s, want %s", skew, got, want)
			}
		}
	})
}
