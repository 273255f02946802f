// GORM: models of the shop, AutoMigrate of its own, migrator, associations, scopes, over pgx.
package main

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"clients/steps"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
)

// Customer is a row of customers.
type Customer struct {
	ID     int
	Name   string
	Email  string `gorm:"type:varchar(100);uniqueIndex"`
	Card   *string
	Birth  *time.Time `gorm:"type:date"`
	Credit float64
	Active bool `gorm:"default:true"`
	Orders []Order
}

func (c Customer) String() string {
	return steps.Shown([]any{c.ID, c.Name, c.Email, c.Card, c.Birth, c.Credit, c.Active, fmt.Sprint(c.Orders)})
}

// Order is a row of orders.
type Order struct {
	ID         int
	CustomerID int
	Status     string `gorm:"default:new"`
	Note       *string
}

func (o Order) String() string {
	return steps.Shown([]any{o.ID, o.CustomerID, o.Status, o.Note})
}

// Label and Note are its own.
type Label struct {
	ID   uint
	Text string `gorm:"size:20;uniqueIndex;not null"`
}

// Note has a soft delete, an index, a check and a many-to-many relation.
type Note struct {
	ID        uint
	CreatedAt time.Time
	DeletedAt gorm.DeletedAt `gorm:"index"`
	Body      string         `gorm:"not null;index:notes_body;check:body_is_something,body <> '';comment:what it's about"`
	Extra     string         `gorm:"type:jsonb;default:'{}'"`
	Labels    []Label        `gorm:"many2many:gm_note_labels"`
}

// TableName keeps it apart.
func (Note) TableName() string { return "gm_notes" }

// TableName keeps it apart.
func (Label) TableName() string { return "gm_labels" }

// ChangedNote is Note, later.
type ChangedNote struct {
	ID   uint
	Body string `gorm:"not null;size:200"`
	Rank int16  `gorm:"default:1"`
}

// TableName is that of Note.
func (ChangedNote) TableName() string { return "gm_notes" }

func main() {
	steps.Versions("gorm.io/gorm", "gorm.io/driver/postgres", "github.com/jackc/pgx/v5")
	var db *gorm.DB
	steps.Step("connect", func() (any, error) {
		var err error
		db, err = gorm.Open(postgres.Open(steps.URL()), &gorm.Config{Logger: logger.Discard, TranslateError: false})
		return "connected", err
	})
	introspect(db)
	schema(db)
	read(db)
	write(db)
	transactions(db)
	failures(db)
	steps.Step("prepared statements", func() (any, error) {
		cached := db.Session(&gorm.Session{PrepareStmt: true})
		var names []string
		for id := range 3 {
			var one Customer
			if err := cached.First(&one, id+1).Error; err != nil {
				return nil, err
			}
			names = append(names, one.Email)
		}
		return names, nil
	})
	steps.Step("prepared never", func() (any, error) {
		simple, err := gorm.Open(postgres.New(postgres.Config{DSN: steps.URL(), PreferSimpleProtocol: true}), &gorm.Config{Logger: logger.Discard})
		if err != nil {
			return nil, err
		}
		var found []Customer
		return fmt.Sprint(found), simple.Where("name = ? AND active = ?", "it's", true).Find(&found).Error
	})
	steps.Step("pool of two", func() (any, error) {
		pool, err := db.DB()
		if err != nil {
			return nil, err
		}
		pool.SetMaxOpenConns(2)
		var found int
		for range 3 {
			conn, err := pool.Conn(context.Background())
			if err != nil {
				return nil, err
			}
			if err := conn.QueryRowContext(context.Background(), "SELECT count(card) FROM customers").Scan(&found); err != nil {
				return nil, err
			}
			conn.Close()
		}
		return found, nil
	})
	steps.Step("read at the end", func() (any, error) {
		var all []Customer
		err := db.Order("id").Find(&all).Error
		return fmt.Sprint(all), err
	})
	steps.Step("schema drop", func() (any, error) {
		return "dropped", db.Migrator().DropTable("gm_note_labels", "gm_notes", "gm_labels")
	})
}

func introspect(db *gorm.DB) {
	migrator := db.Migrator()
	steps.Step("introspect tables", func() (any, error) {
		tables, err := migrator.GetTables()
		sort.Strings(tables)
		return tables, err
	})
	for _, table := range []string{"customers", "products"} {
		steps.Step("introspect columns of "+table, func() (any, error) {
			types, err := migrator.ColumnTypes(table)
			var columns []any
			for _, column := range types {
				nullable, _ := column.Nullable()
				primary, _ := column.PrimaryKey()
				unique, _ := column.Unique()
				length, _ := column.Length()
				fallback, _ := column.DefaultValue()
				comment, _ := column.Comment()
				columns = append(columns, []any{column.Name(), column.DatabaseTypeName(), nullable, primary, unique, length, fallback, comment})
			}
			return columns, err
		})
		steps.Step("introspect indexes of "+table, func() (any, error) {
			indexes, err := migrator.GetIndexes(table)
			var all []string
			for _, index := range indexes {
				unique, _ := index.Unique()
				all = append(all, fmt.Sprint(index.Name(), index.Columns(), unique))
			}
			sort.Strings(all)
			return all, err
		})
	}
	steps.Step("introspect what is there", func() (any, error) {
		return []any{migrator.HasTable("customers"), migrator.HasColumn(&Customer{}, "email"), migrator.HasColumn(&Customer{}, "ssn"), migrator.HasIndex(&Customer{}, "customers_name"), migrator.HasConstraint("products", "products_price_check"), migrator.CurrentDatabase() != ""}, nil
	})
}

func schema(db *gorm.DB) {
	migrate := func(models ...any) func() (any, error) {
		return func() (any, error) { return "migrated", db.AutoMigrate(models...) }
	}
	steps.Step("schema migrate", migrate(&Label{}, &Note{}))
	steps.Step("schema migrate again", migrate(&Label{}, &Note{}))
	steps.Step("schema migrate a change", migrate(&ChangedNote{}))
	steps.Step("schema changes by hand", func() (any, error) {
		migrator := db.Migrator()
		err := errors.Join(
			migrator.RenameColumn(&ChangedNote{}, "rank", "place"),
			migrator.DropColumn(&ChangedNote{}, "place"),
			migrator.CreateIndex(&Note{}, "notes_body"),
		)
		return migrator.HasColumn(&ChangedNote{}, "place"), ignoreExisting(err)
	})
	steps.Step("schema as it is", func() (any, error) {
		types, err := db.Migrator().ColumnTypes(&Note{})
		var columns []any
		for _, column := range types {
			columns = append(columns, column.Name()+" "+column.DatabaseTypeName())
		}
		return columns, err
	})
}

// ignoreExisting: the index may be there already.
func ignoreExisting(err error) error {
	if steps.State(err) == "42P07" {
		return nil
	}
	return err
}

func read(db *gorm.DB) {
	find := func(name string, query func(into *[]Customer) error) {
		steps.Step(name, func() (any, error) {
			var found []Customer
			err := query(&found)
			return fmt.Sprint(found), err
		})
	}
	find("read all", func(into *[]Customer) error { return db.Order("id").Find(into).Error })
	find("read with orders", func(into *[]Customer) error {
		return db.Preload("Orders", func(db *gorm.DB) *gorm.DB { return db.Order("id") }).Order("id").Find(into).Error
	})
	find("read by a mask", func(into *[]Customer) error { return db.Where(&Customer{Email: "m***@example.org"}).Find(into).Error })
	find("read any of", func(into *[]Customer) error { return db.Where("id IN ?", []int{1, 3}).Order("id").Find(into).Error })
	find("read a page", func(into *[]Customer) error { return db.Order("name DESC").Limit(1).Offset(1).Find(into).Error })
	find("read by a subquery", func(into *[]Customer) error {
		return db.Where("id IN (?)", db.Model(&Order{}).Select("customer_id").Where("status = ?", "new")).Order("id").Find(into).Error
	})
	find("read raw", func(into *[]Customer) error {
		return db.Raw("SELECT * FROM customers WHERE card LIKE @card", map[string]any{"card": "%0002"}).Scan(into).Error
	})
	steps.Step("read group", func() (any, error) {
		var rows []map[string]any
		err := db.Model(&Order{}).Select("status, count(*) AS orders").Group("status").Having("count(*) > 0").Order("status").Find(&rows).Error
		return fmt.Sprint(rows), err
	})
	steps.Step("read columns", func() (any, error) {
		var cards []string
		err := db.Model(&Customer{}).Order("id").Pluck("card", &cards).Error
		return cards, err
	})
	steps.Step("read none", func() (any, error) {
		return errors.Is(db.First(&Customer{}, 99).Error, gorm.ErrRecordNotFound), nil
	})
	steps.Step("cursor rows", func() (any, error) {
		rows, err := db.Model(&Customer{}).Order("id").Rows()
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		var seen []string
		for rows.Next() {
			var one Customer
			if err := db.ScanRows(rows, &one); err != nil {
				return nil, err
			}
			seen = append(seen, one.Email)
		}
		return seen, nil
	})
	steps.Step("cursor batches", func() (any, error) {
		var sizes []any
		var found []Customer
		err := db.FindInBatches(&found, 2, func(_ *gorm.DB, _ int) error {
			sizes = append(sizes, len(found))
			return nil
		}).Error
		return sizes, err
	})
}

func write(db *gorm.DB) {
	card, birth := "************1234", time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)
	steps.Step("write create", func() (any, error) {
		note := "first"
		dan := Customer{Name: "Dan", Email: "q***@example.com", Card: &card, Birth: &birth, Credit: 2000, Orders: []Order{{Note: &note}}}
		err := db.Create(&dan).Error
		return dan.String(), err
	})
	// Save writes every column back, the masked ones as they were read.
	steps.Step("write what was read", func() (any, error) {
		var ada Customer
		if err := db.First(&ada, "name = ?", "Ada").Error; err != nil {
			return nil, err
		}
		ada.Name = "Ada L"
		if err := db.Save(&ada).Error; err != nil {
			return nil, err
		}
		var again Customer
		err := db.First(&again, ada.ID).Error
		return again.String(), err
	})
	steps.Step("write update", func() (any, error) {
		result := db.Model(&Customer{}).Where("name = ?", "Bob").Updates(map[string]any{"active": false, "credit": gorm.Expr("credit")})
		return result.RowsAffected, result.Error
	})
	steps.Step("write update returning", func() (any, error) {
		var changed []Customer
		err := db.Model(&changed).Clauses(clause.Returning{}).Where("id = ?", 3).Update("name", "Cyd M").Error
		return fmt.Sprint(changed), err
	})
	steps.Step("batch create", func() (any, error) {
		orders := make([]Order, 50)
		for i := range orders {
			orders[i].CustomerID = 3
		}
		result := db.CreateInBatches(&orders, 20)
		return result.RowsAffected, result.Error
	})
	steps.Step("write upsert", func() (any, error) {
		var label Label
		for range 2 {
			label = Label{Text: "new"}
			if err := db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "text"}}, DoUpdates: clause.AssignmentColumns([]string{"text"})}).Create(&label).Error; err != nil {
				return nil, err
			}
		}
		return []any{label.ID, label.Text}, nil
	})
	steps.Step("write or nothing", func() (any, error) {
		result := db.Clauses(clause.OnConflict{DoNothing: true}).Create(&Label{Text: "new"})
		return result.RowsAffected, result.Error
	})
	steps.Step("write first or create", func() (any, error) {
		var label Label
		result := db.Where(Label{Text: "found"}).FirstOrCreate(&label)
		return []any{label.Text, result.RowsAffected}, result.Error
	})
	steps.Step("write associations", func() (any, error) {
		note := Note{Body: "first", Labels: []Label{{Text: "one"}, {Text: "two"}}}
		if err := db.Create(&note).Error; err != nil {
			return nil, err
		}
		if err := db.Model(&note).Association("Labels").Replace(&Label{Text: "three"}); err != nil {
			return nil, err
		}
		var found Note
		err := db.Preload("Labels").First(&found, "extra = ?", "{}").Error
		return []any{found.Body, found.Extra, found.Labels[0].Text, len(found.Labels)}, err
	})
	steps.Step("write soft delete", func() (any, error) {
		if err := db.Where("body = ?", "first").Delete(&Note{}).Error; err != nil {
			return nil, err
		}
		var seen, all int64
		err := errors.Join(db.Model(&Note{}).Count(&seen).Error, db.Unscoped().Model(&Note{}).Count(&all).Error)
		return []any{seen, all}, err
	})
	steps.Step("write delete", func() (any, error) {
		result := db.Where("customer_id = ? AND id > ?", 3, 10).Delete(&Order{})
		return result.RowsAffected, result.Error
	})
}

func transactions(db *gorm.DB) {
	steps.Step("transaction commit", func() (any, error) {
		err := db.Transaction(func(tx *gorm.DB) error {
			return tx.Model(&Order{}).Where("id = 1").Update("status", "sent").Error
		})
		if err != nil {
			return nil, err
		}
		var order Order
		err = db.First(&order, 1).Error
		return order.String(), err
	})
	steps.Step("transaction rollback", func() (any, error) {
		err := db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Exec("DELETE FROM order_items").Error; err != nil {
				return err
			}
			return errors.New("no")
		})
		var count int64
		counted := db.Table("order_items").Count(&count).Error
		return []any{err.Error(), count}, counted
	})
	steps.Step("transaction nested", func() (any, error) {
		var state string
		err := db.Transaction(func(tx *gorm.DB) error {
			state = steps.State(tx.Transaction(func(inner *gorm.DB) error {
				return inner.Create(&Order{CustomerID: 99}).Error
			}))
			return tx.Exec("INSERT INTO order_items VALUES (3, 2, 2, 5)").Error
		})
		return state, err
	})
	steps.Step("transaction savepoint", func() (any, error) {
		tx := db.Begin()
		tx.SavePoint("before")
		tx.Exec("DELETE FROM order_items")
		tx.RollbackTo("before")
		return "committed", tx.Commit().Error
	})
	steps.Step("transaction lock", func() (any, error) {
		var ada Customer
		err := db.Transaction(func(tx *gorm.DB) error {
			return tx.Clauses(clause.Locking{Strength: "UPDATE", Options: "NOWAIT"}).First(&ada, 1).Error
		})
		return ada.String(), err
	})
}

func failures(db *gorm.DB) {
	steps.Expect("error unique", func() error { return db.Create(&Label{Text: "new"}).Error })
	steps.Expect("error check", func() error { return db.Create(&Note{}).Error })
	steps.Expect("error foreign key", func() error { return db.Delete(&Customer{}, 1).Error })
	steps.Expect("error hidden column", func() error { return db.Raw("SELECT ssn FROM customers").Scan(&[]string{}).Error })
	steps.Expect("error unknown table", func() error { return db.Table("nosuch").Find(&[]map[string]any{}).Error })
}
