//! The words a receipt may use where the contract lists them.

use serde::{Serialize, Serializer};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// A closed list of words.
pub(super) trait Words: Sized + Copy + 'static {
    /// All of them.
    const ALL: &'static [Self];
    /// All of them as a rule: `one of a, b, c`.
    const RULE: &'static str;

    /// The word as the contract writes it.
    fn word(self) -> &'static str;

    /// What `text` stands for.
    fn read(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|word| word.word() == text)
    }
}

/// Declares an enum by its words: its JSON, its list and its rule cannot disagree.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident: $first:literal = $first_variant:ident $(, $word:literal = $variant:ident)* $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            #[doc = concat!("`", $first, "`")]
            $first_variant,
            $(#[doc = concat!("`", $word, "`")] $variant,)*
        }

        impl Words for $name {
            const ALL: &'static [Self] = &[Self::$first_variant $(, Self::$variant)*];
            const RULE: &'static str = concat!("must be one of ", $first $(, ", ", $word)*);

            fn word(self) -> &'static str {
                match self {
                    Self::$first_variant => $first,
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl $name {
            /// The word as it stands in JSON.
            #[must_use]
            pub fn name(self) -> &'static str {
                self.word()
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let words = Self::ALL.iter().map(|word| word.word());
                Schema::from(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words))).into()
            }
        }

        impl ToSchema for $name {}

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }
    };
}

words! {
    /// What happened: `type` of a receipt.
    ReceiptType:
    "income" = Income, "income_refund" = IncomeRefund, "expense" = Expense, "expense_refund" = ExpenseRefund,
    "income_correction" = IncomeCorrection, "expense_correction" = ExpenseCorrection,
}

words! {
    /// The merchant's tax system.
    TaxSystem:
    "osn" = Osn, "usn_income" = UsnIncome, "usn_income_outcome" = UsnIncomeOutcome, "esn" = Esn, "patent" = Patent,
}

words! {
    /// An item's value added tax: a rate in percent, or the calculated rate (`vat120` is 20/120).
    Vat:
    "none" = None, "vat0" = Vat0, "vat5" = Vat5, "vat7" = Vat7, "vat10" = Vat10, "vat20" = Vat20, "vat22" = Vat22,
    "vat105" = Vat105, "vat107" = Vat107, "vat110" = Vat110, "vat120" = Vat120, "vat122" = Vat122,
}

words! {
    /// When an item is paid for relative to its delivery.
    PaymentMethod:
    "full_prepayment" = FullPrepayment, "prepayment" = Prepayment, "advance" = Advance, "full_payment" = FullPayment,
    "partial_payment" = PartialPayment, "credit" = Credit, "credit_payment" = CreditPayment,
}

words! {
    /// What an item is.
    PaymentObject:
    "commodity" = Commodity, "excise" = Excise, "job" = Job, "service" = Service, "payment" = Payment,
    "agent_commission" = AgentCommission, "composite" = Composite, "another" = Another,
}

words! {
    /// What was paid with: `type` of a payment.
    PaymentType:
    "cash" = Cash, "electronic" = Electronic, "advance" = Advance, "credit" = Credit, "other" = Other,
}

impl ReceiptType {
    /// Whether it gives back an earlier receipt, which it has to name. A correction does not.
    #[must_use]
    pub fn is_refund(self) -> bool {
        matches!(self, Self::IncomeRefund | Self::ExpenseRefund)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back<W: Words + PartialEq + std::fmt::Debug>(count: usize) {
        assert_eq!(W::ALL.len(), count);
        for word in W::ALL {
            assert_eq!(W::read(word.word()), Some(*word));
            assert!(W::RULE.contains(word.word()));
        }
        assert_eq!(W::read(""), None);
    }

    #[test]
    fn every_word_is_read_back() {
        read_back::<ReceiptType>(6);
        read_back::<TaxSystem>(5);
        read_back::<Vat>(12);
        read_back::<PaymentMethod>(7);
        read_back::<PaymentObject>(8);
        read_back::<PaymentType>(5);
    }

    #[test]
    fn only_refunds_are_refunds() {
        let refunds: Vec<_> = ReceiptType::ALL
            .iter()
            .filter(|kind| kind.is_refund())
            .map(|kind| kind.name())
            .collect();
        assert_eq!(refunds, ["income_refund", "expense_refund"]);
    }
}
