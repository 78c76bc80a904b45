package api

import (
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/text/language"
)

// locale is a language that the API speaks. The first is the default.
type locale int

const (
	korean locale = iota
	english
)

var locales = []language.Tag{korean: language.Korean, english: language.English}

var matcher = language.NewMatcher(locales)

// maxAcceptLanguage is as much of the header as is worth parsing.
const maxAcceptLanguage = 512

// localeOf chooses the language of the answer to r.
func localeOf(r *http.Request) locale {
	accept := strings.Join(r.Header.Values("Accept-Language"), ",")
	if accept == "" || len(accept) > maxAcceptLanguage {
		return korean
	}
	tags, _, err := language.ParseAcceptLanguage(accept)
	if err != nil {
		return korean
	}
	_, i, confidence := matcher.Match(tags...)
	if confidence == language.No {
		return korean
	}
	return locale(i)
}

// localeNamed is the locale of that name, the default where there is none.
func localeNamed(name string) locale {
	for l := range locales {
		if locale(l).String() == name {
			return locale(l)
		}
	}
	return korean
}

func (l locale) String() string { return locales[l].String() }

// phrase is one thing said, in every language. Its verbs are those of fmt.
type phrase [2]string

func (p phrase) in(l locale, args ...any) string {
	if len(args) == 0 {
		return p[l]
	}
	return fmt.Sprintf(p[l], args...)
}

// What is said of a success, and of a purchase that failed for want of stock.
// The first two are contract: the shop's page shows them.
var (
	sayBought          = phrase{"구매 완료! 남은 재고: %d", "Purchased! Stock left: %d"}
	sayOutOfStock      = phrase{"구매 실패! 남은 재고: %d", "Purchase failed! Stock left: %d"}
	sayBoughtItems     = phrase{"구매 완료! 상품 %d종", "Purchased! Products: %d"}
	sayItemsOutOfStock = phrase{"구매 실패! 재고가 부족한 상품: %d종", "Purchase failed! Products short of stock: %d"}
	sayDelivered       = phrase{"입고 완료! 남은 재고: %d", "Delivered! Stock left: %d"}
)

// Titles and details of the problems.
var (
	titleOutOfStock = phrase{"재고 부족", "Out of stock"}
	sayShort        = phrase{"재고가 부족하여 생산을 요청했습니다.", "There is not enough stock; more has been ordered from the factory."}

	titleMalformed = phrase{"잘못된 요청 본문", "Malformed body"}
	sayNotJSON     = phrase{"본문이 올바른 JSON이 아닙니다.", "The body is not valid JSON."}
	sayNotUTF8     = phrase{"본문이 올바른 UTF-8이 아닙니다.", "The body is not valid UTF-8."}
	sayCutBody     = phrase{"본문이 끝까지 도착하지 않았습니다.", "The body did not arrive to its end."}

	titleMediaType = phrase{"지원하지 않는 형식", "Unsupported media type"}
	sayMediaType   = phrase{"Content-Type은 application/json이어야 합니다.", "Content-Type must be application/json."}
	sayEncoding    = phrase{"압축된 본문은 받지 않습니다. Content-Encoding 없이 보내 주세요.", "The body must not be compressed: send it without Content-Encoding."}

	titleTooLarge = phrase{"본문이 너무 큼", "Body too large"}
	sayTooLarge   = phrase{"본문은 최대 %d바이트입니다.", "The body may have at most %d bytes."}

	titleTooSlow = phrase{"요청 시간 초과", "Request timeout"}
	sayTooSlow   = phrase{"본문이 제시간에 도착하지 않았습니다.", "The body did not arrive in time."}

	titleInvalid    = phrase{"잘못된 값", "Invalid value"}
	sayNotObject    = phrase{"본문은 JSON 객체여야 합니다.", "The body must be a JSON object."}
	sayUnknownField = phrase{"알 수 없는 필드입니다: %s", "Unknown field: %s"}
	sayTwice        = phrase{"필드가 두 번 나옵니다: %s", "The field is there twice: %s"}
	sayMissing      = phrase{"필드가 없습니다: %s", "The field is missing: %s"}
	sayNotString    = phrase{"%s은(는) 문자열이어야 합니다.", "%s must be a string."}
	sayNotInteger   = phrase{"%s은(는) %d 이상 %d 이하의 정수여야 합니다.", "%s must be an integer from %d to %d."}
	sayTogether     = phrase{"%s: 이 상품의 수량을 모두 더하면 %d개를 넘습니다.", "%s: all quantities of this product together are more than %d."}
	sayNotList      = phrase{"%s은(는) %d~%d개의 목록이어야 합니다.", "%s must be a list of %d to %d."}
	sayNotItem      = phrase{"%s은(는) JSON 객체여야 합니다.", "%s must be a JSON object."}
	sayBesideItems  = phrase{"%s은(는) items와 함께 쓸 수 없습니다.", "%s cannot stand beside items."}
	sayBytes        = phrase{"%s은(는) 1~%d바이트여야 합니다.", "%s must have 1 to %d bytes."}
	sayCharacters   = phrase{"%s은(는) 1~%d자여야 합니다.", "%s must have 1 to %d characters."}
	sayControl      = phrase{"%s에 제어 문자를 쓸 수 없습니다.", "%s must not contain control characters."}
	sayOverLimit    = phrase{"한 번에 최대 %d개까지 살 수 있습니다.", "At most %d units may be bought at once."}
	sayOtherSKU     = phrase{"%s이(가) 요청한 상품과 다릅니다.", "%s is not the product that was asked for."}
	sayOverAsked    = phrase{"%s은(는) 1 이상, 요청한 수량 %d 이하의 정수 문자열이어야 합니다.", "%s must be a string holding an integer from 1 to the %d that were asked for."}

	titleNotFound           = phrase{"찾을 수 없음", "Not found"}
	sayNoPath               = phrase{"이 주소에는 아무것도 없습니다.", "There is nothing at this address."}
	sayUnknownProduct       = phrase{"없는 상품입니다.", "There is no such product."}
	sayUnknownOrder         = phrase{"없는 주문입니다.", "There is no such order."}
	sayUnknownReplenishment = phrase{"없는 생산 요청입니다.", "There is no such replenishment."}

	titleMethod = phrase{"허용되지 않는 메서드", "Method not allowed"}
	sayMethod   = phrase{"이 주소에서 허용되는 메서드: %s", "Allowed at this address: %s"}

	titleSignature = phrase{"서명 오류", "Bad signature"}
	saySignature   = phrase{"콜백 주소의 서명이 없거나 올바르지 않습니다.", "The signature in the callback's address is missing or wrong."}

	titleConflict = phrase{"콜백 충돌", "Callback conflict"}
	sayConflict   = phrase{"이미 %d개로 입고 처리되었습니다. 재고는 바뀌지 않았습니다.", "This was already delivered with %d units. The stock was not changed."}

	titleUnavailable = phrase{"일시적으로 사용할 수 없음", "Temporarily unavailable"}
	sayUnavailable   = phrase{"지금은 처리할 수 없습니다. 아무것도 구매되지 않았습니다. 잠시 후 다시 시도해 주세요.", "This cannot be done right now. Nothing was bought. Try again shortly."}

	titleUnknownOutcome = phrase{"결과를 알 수 없음", "Outcome unknown"}
	sayUnknownOutcome   = phrase{"주문이 처리되었는지 확인하지 못했습니다. 다시 사기 전에 이 주문 번호를 조회해 주세요.", "It could not be found out whether the order was placed. Look the order id up before buying again."}

	titleOverloaded = phrase{"요청이 너무 많음", "Too many checkouts"}

	titleKey       = phrase{"잘못된 Idempotency-Key", "Malformed Idempotency-Key"}
	sayKey         = phrase{"Idempotency-Key는 한 번만, 1~%d자로 보내야 합니다.", "Idempotency-Key must be there once and have 1 to %d characters."}
	sayKeyText     = phrase{"Idempotency-Key는 UTF-8이어야 하고 제어 문자를 쓸 수 없습니다.", "Idempotency-Key must be UTF-8 and must not contain control characters."}
	sayKeyQuotes   = phrase{"따옴표로 시작하는 Idempotency-Key는 RFC 8941의 문자열이어야 합니다: 인쇄 가능한 ASCII, 닫는 따옴표로 끝나야 합니다.", "An Idempotency-Key that begins with a quote must be a string of RFC 8941: printable ASCII, and nothing after the closing quote."}
	titleKeyReused = phrase{"이미 사용된 Idempotency-Key", "Idempotency-Key used before"}
	sayKeyReused   = phrase{"이 키는 다른 요청에 사용되었습니다. 새 키를 사용해 주세요.", "This key was used for another request. Use a new key."}

	titleInProgress = phrase{"처리 중인 요청", "Request in progress"}
	sayInProgress   = phrase{"같은 키의 요청을 처리하고 있습니다. 잠시 후 다시 시도해 주세요.", "A request with this key is being processed. Try again shortly."}

	titleInternal = phrase{"내부 오류", "Internal error"}
	sayInternal   = phrase{"예상하지 못한 오류가 발생했습니다.", "Something unexpected went wrong."}
)
