# The body that registers a receipt with the fiscal API. Amounts stay integers in minor units.
.receipt as $receipt
| {
    external_id: .call.id,
    reference: "\($receipt.merchant.id)/\($receipt.external_id)",
    # 2026-11-23T12:00:00+03:00 -> 23.11.2026 12:00:00, in the zone of the sale
    timestamp: ($receipt.operation_time | "\(.[8:10]).\(.[5:7]).\(.[0:4]) \(.[11:19])"),
    receipt: {
      client: $receipt.customer,
      company: ($receipt.merchant | {inn, sno: .tax_system, payment_address}),
      items: [
        $receipt.items[]
        | {name, price, quantity, sum, payment_method, payment_object, vat: {type: .vat}}
          + if .seller then {supplier_info: (.seller | {inn, name})} else {} end
      ],
      payments: $receipt.payments,
      vats: [.results.calculate.tax.vat[] | {type: .vat, sum}],
      total: $receipt.total
    }
  }
