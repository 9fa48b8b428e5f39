package devregistry

import (
	"slices"
)

// deleteSubject marks a subject's versions as deleted, or, permanent, removes those marked before. It returns their numbers.
func (st *store) deleteSubject(name string, permanent bool) ([]int, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	sub, ok := st.Subjects[name]
	if !ok {
		return nil, noSubject(name)
	}
	live := sub.live()
	switch {
	case permanent && len(live) > 0:
		return nil, notSoftDeleted(name)
	case permanent:
		delete(st.Subjects, name)
		return numbers(sub.Versions), st.keep()
	case len(live) == 0:
		return nil, softDeleted(name)
	}
	for i := range sub.Versions {
		sub.Versions[i].Deleted = true
	}
	sub.Level = ""
	return numbers(live), st.keep()
}

// deleteVersion is deleteSubject for one version. It returns its number.
func (st *store) deleteVersion(name, number string, permanent bool) (int, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	_, v, err := st.find(name, number, permanent)
	if err != nil {
		return 0, err
	}
	sub := st.Subjects[name]
	i := slices.Index(sub.Versions, v)
	switch {
	case permanent && !v.Deleted:
		return 0, fail(404, 40407, "Subject '%s' Version %d was not deleted first before being permanently deleted", name, v.Number)
	case permanent:
		sub.Versions = slices.Delete(sub.Versions, i, i+1)
	default:
		sub.Versions[i].Deleted = true
	}
	return v.Number, st.keep()
}

func numbers(versions []version) []int {
	out := make([]int, 0, len(versions))
	for _, v := range versions {
		out = append(out, v.Number)
	}
	return out
}
