package contract

// Format is the encoding of an event in a request.
type Format string

// The formats.
const (
	// FormatHeymarket is the body as received, without the token.
	FormatHeymarket Format = "Heymarket"
	// FormatCloudEvents is the HTTP binary content mode of CloudEvents 1.0: the body as in FormatHeymarket, attributes in
	// headers.
	FormatCloudEvents Format = "CloudEvents"
	// FormatCloudEventsStructured is the JSON structured content mode of CloudEvents 1.0: the body is the member "data" of one
	// JSON object.
	FormatCloudEventsStructured Format = "CloudEventsStructured"
)

// Formats are all formats, the default first.
func Formats() []Format {
	return []Format{FormatHeymarket, FormatCloudEvents, FormatCloudEventsStructured}
}

// Order is the order in which events reach a target.
type Order string

// The orders.
const (
	// OrderNone guarantees no order: events are delivered as fast as the target accepts them.
	OrderNone Order = "None"
	// OrderConversation delivers the events of one conversation one at a time, in the order in which they were accepted.
	OrderConversation Order = "Conversation"
)

// Orders are all orders, the default first.
func Orders() []Order { return []Order{OrderNone, OrderConversation} }

// Circuit is the state of a target, based on its latest answers.
type Circuit string

// The circuits.
const (
	// CircuitClosed is the normal state: events are delivered.
	CircuitClosed Circuit = "Closed"
	// CircuitOpen means that most attempts have failed for a while: the target is probed with single events. The other events
	// wait in their queue and use up no attempts.
	CircuitOpen Circuit = "Open"
	// CircuitGone means that the target answered 410: it wants no more events. It is probed rarely, in case that was a
	// mistake.
	CircuitGone Circuit = "Gone"
)

// Circuits are all circuits, from the best to the worst.
func Circuits() []Circuit { return []Circuit{CircuitClosed, CircuitOpen, CircuitGone} }
