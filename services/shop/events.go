package shop

import (
	"fmt"
	"math/big"
	"time"
)

// cents is an amount of money. Two digits behind the point are all there is.
type cents int64

func (c cents) rat() *big.Rat  { return big.NewRat(int64(c), 100) }
func (c cents) String() string { return fmt.Sprintf("%d.%02d", c/100, c%100) }

type orderLine struct {
	ProductID string   `avro:"product_id"`
	Quantity  int      `avro:"quantity"`
	UnitPrice *big.Rat `avro:"unit_price"`
}

type orderPlaced struct {
	OrderID    string      `avro:"order_id"`
	CustomerID string      `avro:"customer_id"`
	Lines      []orderLine `avro:"lines"`
	Total      *big.Rat    `avro:"total"`
	Currency   string      `avro:"currency"`
	PlacedAt   time.Time   `avro:"placed_at"`
	Note       *string     `avro:"note"`
}

func (orderPlaced) EventType() string { return "shop.OrderPlaced" }

type orderPaid struct {
	OrderID string    `avro:"order_id"`
	Amount  *big.Rat  `avro:"amount"`
	Method  string    `avro:"method"`
	PaidAt  time.Time `avro:"paid_at"`
}

func (orderPaid) EventType() string { return "shop.OrderPaid" }

type orderShipped struct {
	OrderID   string    `avro:"order_id"`
	Carrier   string    `avro:"carrier"`
	Tracking  string    `avro:"tracking"`
	ShippedAt time.Time `avro:"shipped_at"`
}

func (orderShipped) EventType() string { return "shop.OrderShipped" }

type orderDelivered struct {
	OrderID     string    `avro:"order_id"`
	DeliveredAt time.Time `avro:"delivered_at"`
}

func (orderDelivered) EventType() string { return "shop.OrderDelivered" }

type orderCancelled struct {
	OrderID     string    `avro:"order_id"`
	Reason      string    `avro:"reason"`
	CancelledAt time.Time `avro:"cancelled_at"`
}

func (orderCancelled) EventType() string { return "shop.OrderCancelled" }

type orderReturned struct {
	OrderID    string    `avro:"order_id"`
	Reason     string    `avro:"reason"`
	Refund     *big.Rat  `avro:"refund"`
	ReturnedAt time.Time `avro:"returned_at"`
}

func (orderReturned) EventType() string { return "shop.OrderReturned" }

type customerRegistered struct {
	CustomerID   string    `avro:"customer_id"`
	Name         string    `avro:"name"`
	Email        string    `avro:"email"`
	City         string    `avro:"city"`
	RegisteredAt time.Time `avro:"registered_at"`
}

func (customerRegistered) EventType() string { return "shop.CustomerRegistered" }

type customerMoved struct {
	CustomerID string    `avro:"customer_id"`
	City       string    `avro:"city"`
	MovedAt    time.Time `avro:"moved_at"`
}

func (customerMoved) EventType() string { return "shop.CustomerMoved" }

type productListed struct {
	ProductID   string    `avro:"product_id"`
	Name        string    `avro:"name"`
	Description string    `avro:"description"`
	Price       *big.Rat  `avro:"price"`
	RowVersion  int64     `avro:"row_version"`
	ListedAt    time.Time `avro:"listed_at"`
}

func (productListed) EventType() string { return "shop.ProductListed" }

type productPriceChanged struct {
	ProductID  string    `avro:"product_id"`
	Price      *big.Rat  `avro:"price"`
	RowVersion int64     `avro:"row_version"`
	ChangedAt  time.Time `avro:"changed_at"`
}

func (productPriceChanged) EventType() string { return "shop.ProductPriceChanged" }

type productRetired struct {
	ProductID  string    `avro:"product_id"`
	RowVersion int64     `avro:"row_version"`
	RetiredAt  time.Time `avro:"retired_at"`
}

func (productRetired) EventType() string { return "shop.ProductRetired" }
