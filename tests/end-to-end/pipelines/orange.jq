# The document of a receipt for the second API. It wants roubles: an integer divided by 100 is written with two places at most.
.receipt as $receipt
| {
    id: .call.id,
    inn: $receipt.merchant.inn,
    group: $receipt.merchant.group,
    key: $receipt.merchant.inn,
    reference: "\($receipt.merchant.id)/\($receipt.external_id)",
    content: {
      type: {income: 1, income_refund: 2, expense: 3, expense_refund: 4, income_correction: 5, expense_correction: 6}[$receipt.type],
      positions: [
        $receipt.items[]
        | {
            text: .name,
            price: (.price / 100),
            quantity: (.quantity | tonumber),
            tax: {vat20: 1, vat10: 2, vat120: 3, vat110: 4, vat0: 5, none: 6, vat5: 7, vat7: 8, vat105: 9, vat107: 10, vat22: 11, vat122: 12}[.vat],
            paymentMethodType: {full_prepayment: 1, prepayment: 2, advance: 3, full_payment: 4, partial_payment: 5, credit: 6, credit_payment: 7}[.payment_method],
            paymentSubjectType: {commodity: 1, excise: 2, job: 3, service: 4, payment: 10, agent_commission: 11, composite: 12, another: 13}[.payment_object]
          }
      ],
      checkClose: {
        payments: [$receipt.payments[] | {type: {cash: 1, electronic: 2, advance: 14, credit: 15, other: 16}[.type], amount: (.sum / 100)}],
        taxationSystem: {osn: 0, usn_income: 1, usn_income_outcome: 2, esn: 4, patent: 5}[$receipt.merchant.tax_system]
      },
      customerContact: ($receipt.customer | .email // .phone)
    }
  }
