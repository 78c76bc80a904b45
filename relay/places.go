package relay

// places finds the last place up to which all items of a replay are dealt with, in
// whatever order they are. It is pure.
type places struct {
	upTo   int64
	beyond map[int64]struct{} // dealt with, behind one that is not
}

// finish notes that an item is dealt with.
func (p *places) finish(place int64) {
	if p.beyond == nil {
		p.beyond = make(map[int64]struct{})
	}
	p.beyond[place] = struct{}{}
	for {
		if _, ok := p.beyond[p.upTo+1]; !ok {
			return
		}
		p.upTo++
		delete(p.beyond, p.upTo)
	}
}
