//! The simulator through real sockets.

mod faults;
mod filter;
mod orange;
mod registering;
mod services;

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::app::{Simulator, serve};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A running simulator and a client for it.
struct Running {
    address: SocketAddr,
    client: Client,
    task: JoinHandle<std::io::Result<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(serve(listener, Simulator::default()));
        Self {
            address,
            client: Client::builder().no_proxy().build().unwrap(),
            task,
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("http://{}{path}", self.address))
            .header("User-Agent", "chekhov/test")
    }

    fn register(&self, body: &Value) -> RequestBuilder {
        let key = body["external_id"].as_str().unwrap().to_owned();
        self.request(Method::POST, "/fiscal/v4/main-1/sell")
            .header("Idempotency-Key", key)
            .body(body.to_string())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path)).await
    }

    async fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(self.request(Method::PUT, path).body(body.to_string())).await
    }

    /// Asks again until the answer is as wanted.
    async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let asking = async {
            loop {
                let (_, body) = self.get(path).await;
                if wanted(&body) {
                    return body;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), asking)
            .await
            .expect("it never came")
    }
}

/// Status and JSON body; the body is null if there is none.
async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// A registration that is accepted.
fn body(id: &str) -> Value {
    json!({
        "external_id": id,
        "reference": "m-042/order 1/ч",
        "timestamp": "23.11.2026 12:00:00",
        "receipt": {
            "client": {"email": "a@example.org"},
            "company": {"inn": "3914177768", "sno": "osn", "payment_address": "https://shop.example"},
            "items": [{"name": "Taxi ride", "price": 12345, "quantity": "1", "sum": 12345, "vat": {"type": "vat20"},
                "payment_method": "full_payment", "payment_object": "service"}],
            "payments": [{"type": "electronic", "sum": 12345}],
            "vats": [{"type": "vat20", "sum": 2058}],
            "total": 12345,
        },
    })
}

/// A receipt as the pipeline's envelope carries it.
fn receipt() -> Value {
    json!({
        "external_id": "order 1/ч",
        "merchant": {"id": "m-042", "inn": "3914177768", "group": "main-1", "tax_system": "osn",
            "payment_address": "https://shop.example"},
        "type": "income",
        "operation_time": "2026-11-23T12:00:00+03:00",
        "customer": {"email": "a@example.org"},
        "items": [
            {"name": "Taxi ride", "sku": "taxi", "price": 12345, "quantity": "1", "sum": 12345, "vat": "vat20",
                "payment_method": "full_payment", "payment_object": "service",
                "seller": {"inn": "391417776386", "name": "Seller"}},
            {"name": "Tea", "sku": "tea", "price": 101, "quantity": "0.5", "sum": 51, "vat": "none",
                "payment_method": "full_payment", "payment_object": "commodity"},
        ],
        "payments": [{"type": "electronic", "sum": 12396}],
        "total": 12396,
    })
}
