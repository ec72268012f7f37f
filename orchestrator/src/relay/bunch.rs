//! What goes out together: receipts that were queued at the same time share a message.

use std::collections::BTreeMap;

use shared::store::relay::Queued;

use super::publisher::{Publication, Queue};

/// Receipts of one destination that one message hands off.
pub(super) struct Bunch {
    pub destination: String,
    pub receipts: Vec<Queued>,
}

/// As many of a destination as one message may hand off, in their order.
pub(super) fn bunches(publications: Vec<Publication>, queues: &[Queue]) -> Vec<Bunch> {
    let mut by_destination: BTreeMap<String, Vec<Queued>> = BTreeMap::new();
    for publication in publications {
        by_destination
            .entry(publication.destination)
            .or_default()
            .push(publication.receipt);
    }
    let mut bunches = Vec::new();
    for (destination, mut receipts) in by_destination {
        let queue = queues.iter().find(|queue| queue.destination == destination);
        let most = queue.map_or(1, |queue| queue.message.max(1));
        while !receipts.is_empty() {
            let rest = receipts.split_off(receipts.len().min(most));
            let destination = destination.clone();
            bunches.push(Bunch { destination, receipts });
            receipts = rest;
        }
    }
    bunches
}

impl IntoIterator for Bunch {
    type Item = Publication;
    type IntoIter = std::vec::IntoIter<Publication>;

    fn into_iter(self) -> Self::IntoIter {
        let publication = |receipt| Publication {
            destination: self.destination.clone(),
            receipt,
        };
        let publications: Vec<_> = self.receipts.into_iter().map(publication).collect();
        publications.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_go_out_together_in_their_order_each_to_its_own_queue() {
        let queue = |name: &str, message| Queue {
            destination: name.to_owned(),
            name: format!("chekhov.{name}"),
            message,
        };
        let publications = |names: &str| {
            let publication = |(n, name): (usize, char)| Publication {
                destination: name.to_string(),
                receipt: Queued {
                    id: uuid::Uuid::from_u128(n as u128),
                    epoch: 1,
                    traceparent: String::new(),
                    tracestate: None,
                },
            };
            names.chars().enumerate().map(publication).collect::<Vec<_>>()
        };
        let bunches = bunches(publications("abaaba"), &[queue("a", 3), queue("b", 1)]);
        let found: Vec<_> = bunches
            .iter()
            .map(|bunch| {
                let numbers = bunch.receipts.iter().map(|receipt| receipt.id.as_u128());
                (bunch.destination.as_str(), numbers.collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(
            found,
            [("a", vec![0, 2, 3]), ("a", vec![5]), ("b", vec![1]), ("b", vec![4])]
        );
    }
}
