DROP TABLE parcels;
DROP TYPE parcel_state;
