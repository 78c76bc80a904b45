package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"

	"github.com/restock-dev/restock/internal/figure"
	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

const (
	batchSize    = 10
	mostInFlight = 64
	turnTime     = time.Second
	topic        = "arn:aws:sns:eu-west-1:123456789012:events.fifo"
)

// caller publishes a batch of batchSize.
type caller func(ctx context.Context) error

// publish measures publishing against a stub that is not SNS: what a message costs the
// client, and how many go with so many calls under way.
func publish(ctx context.Context, _ *localpg.Server, o options) (bool, error) {
	address, stop, err := startStub(ctx)
	if err != nil {
		return false, err
	}
	defer stop()
	cost, err := publishCost(ctx, address, o.Rounds)
	if err != nil {
		return false, err
	}
	rate, err := publishRate(ctx, address+slowPath, o.Rounds)
	return cost && rate, err
}

// publishCost compares messages per second of this process's processor time.
func publishCost(ctx context.Context, address string, rounds int) (bool, error) {
	ours, err := publisher(address, false)
	if err != nil {
		return false, err
	}
	stock, err := publisher(address, true)
	if err != nil {
		return false, err
	}
	callers := []struct {
		name string
		call caller
	}{{"sdk_loop", sdkLoop(address)}, {"stock_sdk", stock}, {"restock", ours}}
	ok := true
	for _, gogc := range []int{400, 100} {
		debug.SetGCPercent(gogc)
		perCPU := map[string][]float64{}
		for round := range rounds + 1 {
			for _, c := range callers {
				t, err := callFor(ctx, 4, c.call)
				if err != nil {
					return false, fmt.Errorf("%s: %w", c.name, err)
				}
				if round > 0 { // the first only warms up
					perCPU[c.name] = append(perCPU[c.name], float64(t.messages)/t.busy.Seconds())
				}
			}
		}
		name := fmt.Sprintf("relay_publish_gogc%d_", gogc)
		for _, c := range callers {
			figure.Print(os.Stdout, name+c.name, "msg/cpu-s", figure.Goal{}, perCPU[c.name]...)
		}
		ok = figure.Print(os.Stdout, name+"stock_sdk_vs_sdk_loop", "ratio", figure.AtLeast(0.9), ratios(perCPU["stock_sdk"], perCPU["sdk_loop"])...) && ok
		ok = figure.Print(os.Stdout, name+"restock_vs_stock_sdk", "ratio", figure.AtLeast(1.6), ratios(perCPU["restock"], perCPU["stock_sdk"])...) && ok
	}
	return ok, nil
}

// publishRate is messages per second when each call takes serviceTime. With n calls under
// way it cannot be above n * batchSize / serviceTime: 4,000 with 4, 16,000 with 16. The
// SDK's loop beside it shows what the machine had to give.
func publishRate(ctx context.Context, address string, rounds int) (bool, error) {
	ours, err := publisher(address, false)
	if err != nil {
		return false, err
	}
	loop := sdkLoop(address)
	debug.SetGCPercent(400)
	inFlight := []int{4, 16, mostInFlight}
	rates, loopRates := map[int][]float64{}, map[int][]float64{}
	for round := range rounds + 1 {
		for _, n := range inFlight {
			of, err := callFor(ctx, n, ours)
			if err != nil {
				return false, err
			}
			ofLoop, err := callFor(ctx, n, loop)
			if err != nil {
				return false, err
			}
			if round > 0 {
				rates[n] = append(rates[n], of.rate())
				loopRates[n] = append(loopRates[n], ofLoop.rate())
			}
		}
	}
	ok := true
	goals := map[int]figure.Goal{16: figure.AtLeast(14000)}
	for _, n := range inFlight {
		name := fmt.Sprintf("relay_publish_10ms_%d_in_flight", n)
		ok = figure.Print(os.Stdout, name+"_restock", "msg/s", goals[n], rates[n]...) && ok
		figure.Print(os.Stdout, name+"_sdk_loop", "msg/s", figure.Goal{}, loopRates[n]...)
	}
	return figure.Print(os.Stdout, "relay_publish_10ms_restock_64_vs_16_in_flight", "ratio", figure.AtLeast(2), ratios(rates[mostInFlight], rates[16])...) && ok, nil
}

func ratios(a, b []float64) (r []float64) {
	for i := range a {
		r = append(r, a[i]/b[i])
	}
	return r
}

// turn is what a contender did in its turn.
type turn struct {
	messages   int64
	took, busy time.Duration
}

func (t turn) rate() float64 { return float64(t.messages) / t.took.Seconds() }

// callFor keeps n calls under way for turnTime.
func callFor(ctx context.Context, n int, call caller) (turn, error) {
	runtime.GC()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var calls atomic.Int64
	var group sync.WaitGroup
	started, before := time.Now(), ownProcessorTime()
	for range n {
		group.Go(func() {
			for time.Since(started) < turnTime && ctx.Err() == nil {
				if err := call(ctx); err != nil {
					cancel(err)
				}
				calls.Add(1)
			}
		})
	}
	group.Wait()
	return turn{calls.Load() * batchSize, time.Since(started), ownProcessorTime() - before}, context.Cause(ctx)
}

func ownProcessorTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err) // it fails for a bad argument only
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func stubConfig(address string) aws.Config {
	return aws.Config{Region: "eu-west-1", BaseEndpoint: &address, Credentials: credentials.NewStaticCredentialsProvider("id", "secret", "")}
}

// publisher is the relay's own.
func publisher(address string, stockSDK bool) (caller, error) {
	p, err := relay.NewSNS(relay.SNSConfig{AWS: stubConfig(address), TopicARN: topic, Conns: mostInFlight, StockSDK: stockSDK})
	if err != nil {
		return nil, err
	}
	batch := events()
	return func(ctx context.Context) error {
		results, err := p.Publish(ctx, batch)
		for _, r := range results {
			err = errors.Join(err, r.Err)
		}
		return err
	}, nil
}

// sdkLoop is the SDK's client with a request that is there already.
func sdkLoop(address string) caller {
	client := sns.NewFromConfig(stubConfig(address))
	in := &sns.PublishBatchInput{TopicArn: aws.String(topic)}
	for i, e := range events() {
		attributes := map[string]snstypes.MessageAttributeValue{}
		for name, a := range e.Attributes {
			attributes[name] = snstypes.MessageAttributeValue{DataType: aws.String(a.Type), StringValue: aws.String(a.Value)}
		}
		in.PublishBatchRequestEntries = append(in.PublishBatchRequestEntries, snstypes.PublishBatchRequestEntry{
			Id: aws.String(strconv.Itoa(i)), Message: aws.String(e.Body), MessageAttributes: attributes,
			MessageGroupId: aws.String(e.Group), MessageDeduplicationId: aws.String(e.ID.String()),
		})
	}
	return func(ctx context.Context) error {
		out, err := client.PublishBatch(ctx, in)
		if err == nil && len(out.Successful) != batchSize {
			err = fmt.Errorf("%d of %d were accepted", len(out.Successful), batchSize)
		}
		return err
	}
}

// events are batchSize of 400 bytes with four attributes.
func events() []schema.Event {
	all := make([]schema.Event, batchSize)
	for i := range all {
		id := schema.NewID()
		all[i] = schema.Event{
			ID: id, Type: "order.placed", Group: "customer-" + strconv.Itoa(i),
			Attributes: map[string]schema.Attribute{
				"eventType":   {Type: "String", Value: "order.placed"},
				"eventId":     {Type: "String", Value: id.String()},
				"quantity":    {Type: "Number", Value: "3"},
				"traceparent": {Type: "String", Value: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
			},
			Body: `{"time":"2026-01-01T00:00:00Z","specversion":"1.0","id":"` + id.String() + `","type":"order.placed","data":{"text":"`,
		}
		all[i].Body += strings.Repeat("x", 400-len(all[i].Body)-3) + `"}}`
	}
	return all
}
