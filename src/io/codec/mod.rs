//! Messages to rows and forecasts to messages.
