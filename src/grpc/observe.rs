//! What happens around every call: metrics, deadline, panics, and the wording of «too large».
//!
//! # Contract
//! Metrics carry the names that dashboards of Temporal's server query: `service_requests`,
//! `service_latency` (seconds), `service_pending_requests`, `service_error_with_type`, each by `operation`
//! (an RPC's name, so their number is bounded).

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use metrics::{Counter, Gauge, Histogram};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tonic::{Code, Status};

use super::call::Call;
use super::{errors, status};

/// Bytes of one request, before and after decompression.
pub const REQUEST_BYTES_MAX: usize = 4 << 20;
/// A call that names no deadline is given up after this; its handler ends it earlier.
const CALL_TIME_MAX: Duration = Duration::from_secs(180);

type Response = http::Response<Body>;

/// The metrics of one RPC.
pub struct Meter {
    pub operation: &'static str,
    requests: Counter,
    latency: Histogram,
    pending: Gauge,
}

impl Meter {
    /// To be made once the program's metrics recorder is installed.
    pub fn new(operation: &'static str) -> Self {
        Self {
            operation,
            requests: metrics::counter!("service_requests", "service_name" => "frontend", "operation" => operation),
            latency: metrics::histogram!("service_latency", "service_name" => "frontend", "operation" => operation),
            pending: metrics::gauge!("service_pending_requests", "service_name" => "frontend", "operation" => operation),
        }
    }

    /// Runs the work of a call and accounts for it, also when the caller goes away meanwhile.
    pub async fn observe(&self, call: &Call, work: impl Future<Output = Response>) -> Response {
        self.requests.increment(1);
        let _running = Running::new(self);
        let deadline = call.deadline.unwrap_or(call.started + CALL_TIME_MAX);
        let response = match AssertUnwindSafe(timeout_at(deadline, work)).catch_unwind().await {
            Ok(Ok(response)) => in_words_of_the_api(response),
            Ok(Err(_)) => status::of(errors::deadline_exceeded()).into_http(),
            Err(panic) => self.panicked(&*panic),
        };
        match Status::from_header_map(response.headers()) {
            Some(failed) if failed.code() != Code::Ok => self.failed(call, &failed),
            _ => tracing::debug!(operation = self.operation, elapsed = ?call.started.elapsed(), "call"),
        }
        response
    }

    fn failed(&self, call: &Call, status: &Status) {
        let error_type = error_type(status.code());
        metrics::counter!(
            "service_error_with_type",
            "service_name" => "frontend", "operation" => self.operation, "error_type" => error_type
        )
        .increment(1);
        let (code, message) = (status.code(), status.message());
        tracing::debug!(operation = self.operation, elapsed = ?call.started.elapsed(), ?code, message, "call failed");
    }

    fn panicked(&self, panic: &(dyn Any + Send)) -> Response {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("?");
        tracing::error!(operation = self.operation, "a handler panicked: {text}");
        metrics::counter!("service_panics", "service_name" => "frontend", "operation" => self.operation).increment(1);
        Status::internal("internal error").into_http()
    }
}

struct Running<'a> {
    meter: &'a Meter,
    since: Instant,
}

impl<'a> Running<'a> {
    fn new(meter: &'a Meter) -> Self {
        meter.pending.increment(1.0);
        Self { meter, since: Instant::now() }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.meter.pending.decrement(1.0);
        self.meter.latency.record(self.since.elapsed().as_secs_f64());
    }
}

/// SDKs know a message that was too large by code and wording, and only then stop sending it again;
/// the transport's own differ.
fn in_words_of_the_api(response: Response) -> Response {
    const TOO_LARGE: &str = "Error, decoded message length too large: found ";
    const TOO_LARGE_DECOMPRESSED: &str = "Error decompressing: size limit, of ";
    let Some(status) = Status::from_header_map(response.headers()) else { return response };
    let message = match status.code() {
        Code::OutOfRange => status.message().strip_prefix(TOO_LARGE).map(|rest| {
            let bytes = rest.split(' ').next().unwrap_or_default();
            format!("grpc: received message larger than max ({bytes} vs. {REQUEST_BYTES_MAX})")
        }),
        Code::ResourceExhausted if status.message().starts_with(TOO_LARGE_DECOMPRESSED) => {
            Some(format!("grpc: message after decompression larger than max {REQUEST_BYTES_MAX}"))
        }
        _ => None,
    };
    match message {
        Some(message) => Status::resource_exhausted(message).into_http(),
        None => response,
    }
}

fn error_type(code: Code) -> &'static str {
    match code {
        Code::Ok => "none",
        Code::Cancelled => "serviceerror_Canceled",
        Code::Unknown => "serviceerror_Unknown",
        Code::InvalidArgument => "serviceerror_InvalidArgument",
        Code::DeadlineExceeded => "serviceerror_DeadlineExceeded",
        Code::NotFound => "serviceerror_NotFound",
        Code::AlreadyExists => "serviceerror_AlreadyExists",
        Code::PermissionDenied => "serviceerror_PermissionDenied",
        Code::ResourceExhausted => "serviceerror_ResourceExhausted",
        Code::FailedPrecondition => "serviceerror_FailedPrecondition",
        Code::Aborted => "serviceerror_Aborted",
        Code::OutOfRange => "serviceerror_OutOfRange",
        Code::Unimplemented => "serviceerror_Unimplemented",
        Code::Internal => "serviceerror_Internal",
        Code::Unavailable => "serviceerror_Unavailable",
        Code::DataLoss => "serviceerror_DataLoss",
        Code::Unauthenticated => "serviceerror_Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn call(timeout: Option<Duration>) -> Call {
        let now = Instant::now();
        Call { deadline: timeout.map(|timeout| now + timeout), ..Call::of(&HeaderMap::new(), now) }
    }

    fn status(response: &Response) -> Option<(Code, String)> {
        Status::from_header_map(response.headers()).map(|status| (status.code(), status.message().to_owned()))
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error() {
        let meter = Meter::new("Test");
        let response = meter.observe(&call(None), async { panic!("oops") }).await;
        assert_eq!(status(&response), Some((Code::Internal, "internal error".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_ends_the_work() {
        let meter = Meter::new("Test");
        let work = std::future::pending::<Response>();
        let response = meter.observe(&call(Some(Duration::from_secs(5))), work).await;
        assert_eq!(status(&response), Some((Code::DeadlineExceeded, "context deadline exceeded".into())));
    }

    #[tokio::test]
    async fn other_answers_pass_through() {
        let meter = Meter::new("Test");
        let good = meter.observe(&call(None), async { Response::new(Body::empty()) }).await;
        assert_eq!(status(&good), None);
        let out_of_range = Status::out_of_range("newer build exists");
        let response = meter.observe(&call(None), async { out_of_range.into_http() }).await;
        assert_eq!(status(&response), Some((Code::OutOfRange, "newer build exists".into())));
    }
}
