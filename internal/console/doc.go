// Package console is the operators' side of Restock over HTTP: what the commands of the
// same names do (internal/ops), as JSON under /api/.
//
// It has a listener of its own, apart from the shop's. Whoever can use it can have events
// sent again, so everything but the page itself asks for the token, as "Authorization:
// Bearer" or as the cookie that POST /login gives for it; never in a URL, which ends up in
// logs. Without a token it only works on a loopback address, for whoever is on that
// machine. Requests under another host name than those it knows are refused (DNS
// rebinding), and so are changes that another site's page asks for (CSRF).
package console
