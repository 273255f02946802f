SELECT name, email FROM customers WHERE id = 1;
