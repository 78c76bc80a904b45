package load

import "math/rand/v2"

// Pick chooses a product.
type Pick func(*rand.Rand) string

// Hot is one product for all.
func Hot(sku string) Pick { return func(*rand.Rand) string { return sku } }

// Uniform is every product as often as any other.
func Uniform(skus []string) Pick {
	return func(r *rand.Rand) string { return skus[r.IntN(len(skus))] }
}

// Zipf is the first product most often, and each further one less: of 10,000 products
// the first has about a tenth.
func Zipf(skus []string) Pick {
	return func(r *rand.Rand) string {
		return skus[rand.NewZipf(r, 1.1, 1, uint64(len(skus)-1)).Uint64()]
	}
}
