package watch

import "watcher/internal/event"

// note remembers a state in place of the one before, and says what the change touched and who made it. It is asked once for
// each change, in order.
func (s *stream) note(f *frame) {
	o := &f.Object
	was, known := s.ledger.put(o)
	switch {
	case f.Type == event.Modified && known && was.hashes.Metadata != 0:
		f.Changed = s.changed(was.hashes, o.Hashes)
		if o.Attribution.Second() > was.attribution.Second() { // else somebody's entry went, or two came in one second
			f.Actor = f.actor
		}
	case f.Type == event.Added && f.Origin == event.Live && !s.mayLeave: // a creation
		f.Actor = f.actor
	}
	if f.Type == event.Modified {
		f.Filtered = s.filters(f.Changed, o.Hashes)
	}
	if f.Origin == event.Live {
		testify(&s.witness, o)
	}
}

// witness makes a witness of a state. What a repair reads object by object is none: should the API server be restored
// meanwhile, it would testify for the new history.
func witness(o *event.Object) event.Witness {
	return event.Witness{Namespace: o.Namespace, Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion, Attribution: o.Attribution}
}

// testify puts a state in the place of a witness that is older.
func testify(w *event.Witness, o *event.Object) {
	if newer(o.ResourceVersion, w.ResourceVersion) {
		*w = witness(o)
	}
}

// changed compares the hashes of an object's parts. Those of metadata alone have no status: they tell from which payload
// they are.
func (s *stream) changed(was, is event.Hashes) event.Parts {
	parts := event.Parts(0)
	if was.Spec != is.Spec {
		parts |= event.Spec
	}
	if was.Metadata != is.Metadata {
		parts |= event.Metadata
	}
	if was.Status != is.Status {
		parts |= event.Status
	}
	partial := s.src.sel.Payload != PayloadFull
	switch {
	case partial && parts == 0: // it may have been the status
		return 0
	case was.Spec == 0, partial != (was.Status == 0):
		return 0
	}
	return parts | event.Told
}

// filters is whether a modification that touched these parts is not to be written.
func (s *stream) filters(parts event.Parts, is event.Hashes) bool {
	switch {
	case s.only == 0, parts&event.Told == 0, parts&s.only != 0:
		return false
	case s.src.sel.Payload == PayloadFull:
		return true
	default: // the status is not known, nor the spec of what has no generation
		return s.only&event.Status == 0 && (s.only&event.Spec == 0 || is.Spec != noGeneration)
	}
}
