//! Statements that `query!` checks against the database while this is compiled; the program `sqlx` does so.

use clients::{Outcome, Target};
use sqlx::postgres::PgPool;

#[derive(Debug)]
#[expect(dead_code, reason = "read by Debug")]
struct Order {
    id: i32,
    status: String,
    note: Option<String>,
    buyer: String,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let pool = PgPool::connect(&Target::from_environment().url()).await?;
    let open = sqlx::query!("SELECT id, name, active FROM customers WHERE id = $1", 1).fetch_one(&pool).await?;
    println!("{open:?}");
    // What a masked column's declaration says is not known of it: the program says what it takes it to be.
    let masked = sqlx::query!(
        r#"SELECT email AS "email!", birth AS "birth?", credit AS "credit!" FROM customers WHERE email = $1"#,
        "m***@example.com"
    );
    println!("{:?}", masked.fetch_all(&pool).await?);
    let scalar = sqlx::query_scalar!("SELECT count(*) FROM orders WHERE customer_id = ANY ($1)", &[1, 2])
        .fetch_one(&pool)
        .await?;
    println!("{scalar:?}");
    let orders = sqlx::query_as!(
        Order,
        "SELECT o.id, o.status, o.note, c.name AS buyer FROM orders o JOIN customers c ON c.id = o.customer_id WHERE c.birth IS NOT NULL ORDER BY o.id"
    );
    println!("{:?}", orders.fetch_all(&pool).await?);
    let outer = sqlx::query!(
        r#"SELECT p.sku, i.quantity AS "quantity?" FROM products p LEFT JOIN order_items i ON i.product_id = p.id AND i.line = 2 ORDER BY p.sku, i.order_id"#
    );
    println!("{:?}", outer.fetch_all(&pool).await?);
    let renamed =
        sqlx::query!("UPDATE customers SET name = $2 WHERE id = $1 RETURNING name", 3, "Cyd").fetch_one(&pool).await?;
    println!("{renamed:?}");
    Ok(())
}
