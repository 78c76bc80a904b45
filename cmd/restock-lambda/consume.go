package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/awshttp"
	"github.com/restock-dev/restock/internal/otlp"
	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/internal/topology"
	"github.com/restock-dev/restock/schema"
)

// newHandler makes the handler of one consumer, given its database.
type newHandler func(f flags, cfg aws.Config, pool *pgxpool.Pool) (consumers.Handler, error)

func newFactory(f flags, _ aws.Config, pool *pgxpool.Pool) (consumers.Handler, error) {
	if f.FactoryAPI == "" {
		return nil, errors.New("no factory: set RESTOCK_FACTORY_API")
	}
	return consumers.NewFactory(consumers.FactoryConfig{URL: f.FactoryAPI, Pool: pool})
}

func newAds(f flags, cfg aws.Config, pool *pgxpool.Pool) (consumers.Handler, error) {
	if f.AdsFrom == "" {
		return nil, errors.New("no sender: set RESTOCK_ADS_FROM")
	}
	return consumers.NewAds(consumers.AdsConfig{
		Pool: pool, SES: sesv2.NewFromConfig(cfg), From: f.AdsFrom, ConfigurationSet: f.SESConfigurationSet,
	})
}

func newVIP(f flags, _ aws.Config, _ *pgxpool.Pool) (consumers.Handler, error) {
	return consumers.NewVIP(consumers.VIPConfig{Threshold: f.VIPThreshold})
}

func newMarketing(f flags, _ aws.Config, _ *pgxpool.Pool) (consumers.Handler, error) {
	return consumers.NewMarketing(consumers.MarketingConfig{
		URL: f.MarketingWebhookURL, Secrets: f.MarketingSecrets, AllowedPrefixes: f.MarketingAllow,
	})
}

// consumerOf makes the function of the consumer that the flags name.
func consumerOf(handlerOf newHandler) func(context.Context, flags, zerolog.Logger) (any, error) {
	return func(ctx context.Context, f flags, log zerolog.Logger) (any, error) {
		pc, err := pgxpool.ParseConfig(f.DatabaseURL)
		if err != nil {
			return nil, err
		}
		pc.MaxConns = f.MaxConns
		// A message is deleted on the word of the inbox, whatever the database's default is.
		pc.ConnConfig.RuntimeParams["synchronous_commit"] = "on"
		// Each statement is planned once: else it is planned for each event, against
		// every partition, which costs more than to run it.
		pc.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
		pc.ConnConfig.RuntimeParams["application_name"] = "restock_lambda_" + f.Consumer
		service.ToWrite(&pc.ConnConfig.Config)
		pool, err := pgxpool.NewWithConfig(ctx, pc)
		if err != nil {
			return nil, err
		}
		cfg, err := config.LoadDefaultConfig(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the AWS configuration: %w", err)
		}
		cfg.HTTPClient = awshttp.Wrap(cfg.HTTPClient, 8)
		handler, err := handlerOf(f, cfg, pool)
		if err != nil {
			return nil, err
		}
		client := sqs.NewFromConfig(cfg)
		queue, err := topology.FindQueue(ctx, client, f.Consumer)
		if err != nil {
			return nil, err
		}
		traces, err := f.tracing(ctx, "consumers", log)
		if err != nil {
			return nil, err
		}
		interest, _ := schema.InterestOf(f.Consumer, f.VIPThreshold)
		worker, err := consumers.New(consumers.Config{
			Interest: interest, QueueURL: queue.URL, DLQURL: queue.DLQURL, SQS: client, Pool: pool, Handler: handler,
			Concurrency: f.Concurrency, Lease: f.Lease, Logger: log, Tracing: traces.Provider(),
		})
		if err != nil {
			return nil, err
		}
		return function{worker: worker, queue: schema.QueueName(f.Consumer), traces: traces}.handle, nil
	}
}

// function is a consumer behind an event source.
type function struct {
	worker *consumers.Worker
	queue  string // the name of the consumer's
	traces *otlp.Tracing
}

// batchResponse is what an event source with ReportBatchItemFailures wants:
// whatever is not in it is deleted. An empty list must be there as one.
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
type batchResponse struct {
	BatchItemFailures []batchItemFailure `json:"batchItemFailures"`
}

type batchItemFailure struct {
	ItemIdentifier string `json:"itemIdentifier"`
}

// handle handles a batch. Its error keeps the whole batch in the queue.
func (f function) handle(ctx context.Context, event events.SQSEvent) (batchResponse, error) {
	messages := make([]consumers.Message, len(event.Records))
	for i, r := range event.Records {
		switch {
		case !strings.HasSuffix(r.EventSourceARN, ":"+f.queue):
			return batchResponse{}, fmt.Errorf("the event source is %q and this function is for %s: mend its trigger", r.EventSourceARN, f.queue)
		case r.MessageId == "":
			return batchResponse{}, errors.New("a record has no messageId: this is no batch of SQS")
		}
		messages[i] = messageOf(r)
	}
	defer flush(f.traces)
	ctx, cancel := earlier(ctx)
	defer cancel()
	response := batchResponse{BatchItemFailures: []batchItemFailure{}}
	for _, id := range f.worker.ProcessBatch(ctx, messages) {
		response.BatchItemFailures = append(response.BatchItemFailures, batchItemFailure{ItemIdentifier: id})
	}
	return response, nil
}

func messageOf(r events.SQSMessage) consumers.Message {
	m := consumers.Message{
		ID: r.MessageId, Receipt: r.ReceiptHandle, Body: r.Body, System: r.Attributes,
		Attributes: make(map[string]consumers.MessageAttribute, len(r.MessageAttributes)),
	}
	for name, a := range r.MessageAttributes {
		v := consumers.MessageAttribute{Type: a.DataType}
		switch {
		case a.StringValue != nil:
			v.Text = *a.StringValue
		case strings.HasPrefix(a.DataType, "Binary"):
			v.Binary = a.BinaryValue
		}
		m.Attributes[name] = v
	}
	return m
}

// recordTime is what is left of an invocation to record the attempts in hand, and
// to put back what was not begun, once they are cut.
const recordTime = 10 * time.Second

// earlier ends some time before ctx does, at which Lambda stops the process: a
// quarter of what is left where that is short.
func earlier(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, deadline.Add(-min(recordTime, time.Until(deadline)/4)))
}
