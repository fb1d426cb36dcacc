package watchtest

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// Reviews matches the questions that clients ask about themselves: who they are, and what they may do.
func Reviews() Match { return Match{verb: "review"} }

// reviews are those questions, by their paths.
var reviews = map[string]func(*call, attributes) object{
	"/apis/authentication.k8s.io/v1/selfsubjectreviews": func(*call, attributes) object {
		return object{"userInfo": object{"username": User}}
	},
	"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": (*call).mayI,
}

// attributes are what a SelfSubjectAccessReview asks about.
type attributes struct {
	Namespace, Verb, Group, Version, Resource, Name string
	LabelSelector, FieldSelector                    struct{ RawSelector string }
}

// review answers a question with a status alone.
func (c *call) review() {
	var asked struct {
		Spec struct{ ResourceAttributes attributes }
	}
	if err := json.NewDecoder(c.r.Body).Decode(&asked); err != nil {
		c.answer(http.StatusBadRequest, "text/plain; charset=utf-8", []byte(err.Error()+"\n"))
		return
	}
	raw, _ := json.Marshal(object{"status": reviews[c.q.Path](c, asked.Spec.ResourceAttributes)}) // maps always marshal
	c.answer(http.StatusCreated, "application/json", raw)
}

// mayI answers as Forbid has it; of what is not served everything may be done.
func (c *call) mayI(a attributes) object {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, strings.Join([]string{a.Verb, a.Group, a.Version, a.Resource, a.Namespace, a.Name, a.LabelSelector.RawSelector, a.FieldSelector.RawSelector}, " "))
	return object{"allowed": !s.denied[a.Verb+" "+Resource{Group: a.Group, Version: a.Version, Name: a.Resource}.String()]}
}

// Asked is what clients asked whether they may: "VERB GROUP VERSION RESOURCE NAMESPACE NAME LABELS FIELDS".
func (s *Server) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

// SkewClock makes the clock that the server's Date headers show differ by d from now on.
func (s *Server) SkewClock(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew = d
}
