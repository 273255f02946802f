//! Postern inside of a cluster: admission webhooks, broker and controllers. [`run`] is where it starts.

pub mod admin;
pub mod admission;
pub mod broker;
pub mod certificates;
pub mod config;
pub mod controllers;
pub mod definitions;
pub mod events;
pub mod facts;
pub mod injection;
pub mod leader;
pub mod metrics;
pub mod objects;
pub mod plugin;
pub mod pods;
pub mod preflight;
pub mod ready;
pub mod roles;
pub mod run;
pub mod secrets;
pub mod server;
pub mod timely;
pub mod tls;
pub mod uninstall;
pub mod version;
