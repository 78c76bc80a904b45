// Command restock-lambda is one AWS Lambda function of Restock, on a runtime that
// runs a binary (provided.al2023). Which one says RESTOCK_CONSUMER:
//
//   - the name of a consumer: it takes that consumer's queue as its event source,
//     with ReportBatchItemFailures, and handles events as restock consume does
//   - stock-increase: the factory's callback behind an API Gateway HTTP API,
//     payload version 2.0, answered as restock api does
//
// It is configured by the same environment as restock. A function that cannot
// begin ends with code 2, which Lambda reports and tries again.
package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/schema"
)

func main() {
	handler, err := setup(context.Background(), os.Args[1:], os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "restock-lambda:", err)
		os.Exit(2)
	}
	lambda.Start(handler) // never returns
}

// flags are what all functions together need. Each checks what it needs itself.
type flags struct {
	Consumer    string        `required:"" env:"RESTOCK_CONSUMER" help:"Which function this is: a consumer, or stock-increase."`
	DatabaseURL string        `required:"" env:"RESTOCK_DATABASE_URL" placeholder:"URL" help:"The function's database, as the role of its part."`
	LogLevel    string        `default:"info" enum:"debug,info,warn,error" env:"RESTOCK_LOG_LEVEL" help:"Least level that is logged."`
	Lease       time.Duration `default:"60s" env:"RESTOCK_LEASE" help:"How long an attempt keeps its event to itself: no less than the function's time-out."`
	Concurrency int           `default:"10" env:"RESTOCK_CONCURRENCY" help:"Message groups of a batch that are worked on at once."`
	MaxConns    int32         `default:"2" env:"RESTOCK_MAX_CONNS" help:"Most connections of one running function to the database."`

	FactoryAPI string `name:"factory-api" env:"RESTOCK_FACTORY_API" placeholder:"URL" help:"The factory."`

	AdsFrom             string `env:"RESTOCK_ADS_FROM" placeholder:"ADDRESS" help:"Sender of the mails to the ads' managers."`
	SESConfigurationSet string `name:"ses-configuration-set" env:"RESTOCK_SES_CONFIGURATION_SET" placeholder:"NAME" help:"Configuration set of the mails."`

	VIPThreshold int64 `name:"vip-threshold" default:"${vipthreshold}" env:"RESTOCK_VIP_THRESHOLD" help:"Units in one order that make its customer VIP."`

	MarketingWebhookURL string         `name:"marketing-webhook-url" env:"RESTOCK_MARKETING_WEBHOOK_URL" placeholder:"URL" help:"Where the marketing system takes webhooks."`
	MarketingSecrets    []string       `env:"RESTOCK_MARKETING_SECRETS" placeholder:"whsec_…" help:"Active secrets; each signs."`
	MarketingAllow      []netip.Prefix `env:"RESTOCK_MARKETING_ALLOW" placeholder:"PREFIX" help:"Addresses that the webhook's host may have though they are not global."`

	OTLP       string `name:"otlp" env:"OTEL_EXPORTER_OTLP_ENDPOINT" placeholder:"URL" help:"OpenTelemetry collector to send spans to; what is left is sent before an invocation ends."`
	OTLPTraces string `name:"otlp-traces" env:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" placeholder:"URL" help:"The same for a collector that takes spans at URL itself."`

	PublicURL       string   `name:"public-url" env:"RESTOCK_PUBLIC_URL" placeholder:"URL" help:"Where the factory reaches stock-increase."`
	CallbackSecrets []string `env:"RESTOCK_CALLBACK_SECRETS" help:"One or two secrets, the same as the API's."`
}

// functions makes each function's handler. A consumer joins by a line here.
var functions = map[string]func(context.Context, flags, zerolog.Logger) (any, error){
	schema.ConsumerFactory:   consumerOf(newFactory),
	schema.ConsumerAds:       consumerOf(newAds),
	schema.ConsumerVIP:       consumerOf(newVIP),
	schema.ConsumerMarketing: consumerOf(newMarketing),
	"stock-increase":         newStockIncrease,
}

// setup makes the handler that the flags and the environment ask for.
func setup(ctx context.Context, args []string, stderr io.Writer) (handler any, err error) {
	var f flags
	parser, err := kong.New(&f, kong.Name("restock-lambda"), kong.Writers(stderr, stderr), kong.Exit(func(int) {}),
		kong.Vars{"vipthreshold": strconv.Itoa(schema.DefaultVIPThreshold)})
	if err != nil {
		return nil, err
	}
	if _, err := parser.Parse(args); err != nil {
		return nil, err
	}
	level, err := zerolog.ParseLevel(f.LogLevel)
	if err != nil {
		return nil, err
	}
	log := zerolog.New(stderr).Level(level).With().Timestamp().Str("part", f.Consumer).Logger()
	newFunction, known := functions[f.Consumer]
	if !known {
		return nil, fmt.Errorf("no function %q: there are %s", f.Consumer, strings.Join(names(), ", "))
	}
	if handler, err = newFunction(ctx, f, log); err != nil {
		return nil, fmt.Errorf("function %s: %w", f.Consumer, err)
	}
	return handler, nil
}

func names() []string {
	var all []string
	for name := range functions {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
