// Package shop holds the example domain as files: a shop's events (one Avro schema each) and the projections of its three entities.
// No product package knows it; the demonstration and tests load it as they would load a user's own files.
//
//	shop.orders     OrderPlaced, OrderPaid, OrderShipped, OrderDelivered, OrderCancelled, OrderReturned (key: order_id)
//	shop.customers  CustomerRegistered, CustomerMoved, CustomerRenamed                                  (key: customer_id)
//	shop.products   ProductListed, ProductPriceChanged, ProductRetired                                  (key: product_id)
package shop

import "embed"

// FS has the schemas (*.avsc) and the projections (projections/*.yaml).
//
//go:embed *.avsc projections/*.yaml
var FS embed.FS
