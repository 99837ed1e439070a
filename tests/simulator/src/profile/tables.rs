//! The models.
//!
//! Names, shapes and orders of fields are those of public dumps: P110 1.4.8 and P304M 1.4.2 from the
//! tapo crate's fixtures, P110 1.3.0, P100 1.4.0, P300 1.0.15, P316M 1.0.5, EP40M 1.1.0, P210M 1.0.3, P306 1.1.2, TP25 1.0.2,
//! KS205 1.1.0, S500D 1.0.5, L510 1.1.2, H100 1.5.23, KH100 1.7.5 and the old Kasa devices from python-kasa's.

use super::{Component, Iot, Meter, OutletFields, Spec};

/// What all but the oldest plugs begin their lists with.
const BASE: &[Component] = &[
    ("device", 2),
    ("firmware", 2),
    ("quick_setup", 3),
    ("time", 1),
    ("wireless", 1),
    ("schedule", 2),
    ("countdown", 2),
    ("antitheft", 1),
    ("account", 1),
    ("synchronize", 1),
    ("sunrise_sunset", 1),
    ("led", 1),
    ("cloud_connect", 1),
    ("iot_cloud", 1),
    ("device_local_time", 1),
    ("default_states", 1),
];
/// What strips go on with.
const STRIP: &[Component] = &[("control_child", 2), ("child_device", 2)];
/// What the outlets of all strips begin their lists with.
const CHILD: &[Component] = &[
    ("device", 2),
    ("quick_setup", 3),
    ("time", 1),
    ("device_local_time", 1),
    ("schedule", 2),
    ("countdown", 2),
    ("antitheft", 1),
    ("account", 1),
    ("synchronize", 1),
    ("sunrise_sunset", 1),
    ("cloud_connect", 1),
    ("iot_cloud", 1),
    ("firmware", 2),
    ("default_states", 1),
];

pub(super) static P100: Spec = Spec {
    model: "P100",
    device_model: "P100",
    device_type: "SMART.TAPOPLUG",
    hw_ver: "1.0.0",
    fw_ver: "1.4.0 Build 20231017 Rel. 33876",
    knows_tpap: false,
    default_state_object: true,
    protection_flag: "enabled",
    iot: None,
    components: &[&[
        ("device", 2),
        ("firmware", 1),
        ("quick_setup", 3),
        ("time", 1),
        ("wireless", 1),
        ("schedule", 2),
        ("countdown", 2),
        ("antitheft", 1),
        ("account", 1),
        ("synchronize", 1),
        ("sunrise_sunset", 1),
        ("led", 1),
        ("cloud_connect", 1),
        ("iot_cloud", 1),
        ("default_states", 1),
    ]],
    child_components: &[],
    outlet_fields: &[OutletFields::OverheatedFlag],
    night_light: false,
    listing: &[1],
    meter: None,
    loads: &[60.0],
    max_watts: 2300.0,
    max_schedule_rules: 20,
};

pub(super) static P110: Spec = Spec {
    model: "P110",
    device_model: "P110(UK)",
    device_type: "SMART.TAPOPLUG",
    hw_ver: "1.0",
    fw_ver: "1.4.8 Build 260804 Rel.045837",
    knows_tpap: true,
    default_state_object: false,
    protection_flag: "enabled",
    iot: None,
    components: &[
        BASE,
        &[
            ("auto_off", 2),
            ("localSmart", 1),
            ("energy_unit", 1),
            ("energy_monitoring", 2),
            ("power_protection", 1),
            ("charging_protection", 2),
            ("current_protection", 1),
            ("tpap", 1),
            ("realtime_emeter", 1),
        ],
    ],
    child_components: &[],
    outlet_fields: &[
        OutletFields::AutoOff,
        OutletFields::Charging,
        OutletFields::Overcurrent,
        OutletFields::PowerProtection,
    ],
    night_light: false,
    listing: &[1],
    meter: Some(Meter {
        emeter: true,
        power_in_usage: true,
        milliwatt_hours: true,
    }),
    loads: &[60.0],
    max_watts: 3379.0,
    max_schedule_rules: 32,
};

pub(super) static P110_OLD: Spec = Spec {
    fw_ver: "1.3.0 Build 230905 Rel.152200",
    knows_tpap: false,
    default_state_object: true,
    iot: None,
    components: &[
        BASE,
        &[
            ("auto_off", 2),
            ("localSmart", 1),
            ("energy_monitoring", 2),
            ("power_protection", 1),
            ("current_protection", 1),
        ],
    ],
    outlet_fields: &[
        OutletFields::AutoOff,
        OutletFields::Overcurrent,
        OutletFields::OverheatedFlag,
        OutletFields::PowerProtection,
    ],
    meter: Some(Meter {
        emeter: false,
        power_in_usage: true,
        milliwatt_hours: false,
    }),
    ..P110
};

pub(super) static P300: Spec = Spec {
    model: "P300",
    device_model: "P300(EU)",
    device_type: "SMART.TAPOPLUG",
    hw_ver: "1.0",
    fw_ver: "1.0.15 Build 231130 Rel.122554",
    knows_tpap: false,
    default_state_object: false,
    protection_flag: "enabled",
    iot: None,
    components: &[
        BASE,
        STRIP,
        &[("auto_off", 2), ("homekit", 2), ("overheat_protection", 1)],
    ],
    child_components: &[CHILD, &[("overheat_protection", 1), ("auto_off", 2)]],
    outlet_fields: &[OutletFields::AutoOff, OutletFields::OverheatStatus],
    night_light: false,
    listing: &[3, 2, 1],
    meter: None,
    loads: &[60.0, 12.0, 5.0],
    max_watts: 2300.0,
    max_schedule_rules: 32,
};

pub(super) static P304M: Spec = Spec {
    model: "P304M",
    device_model: "P304M(UK)",
    device_type: "SMART.TAPOPLUG",
    hw_ver: "1.0",
    fw_ver: "1.4.2 Build 260513 Rel.024250",
    knows_tpap: true,
    default_state_object: false,
    protection_flag: "enabled",
    iot: None,
    components: &[
        BASE,
        STRIP,
        &[
            ("localSmart", 1),
            ("matter", 3),
            ("overheat_protection", 1),
            ("auto_off", 2),
            ("energy_unit", 1),
            ("energy_monitoring", 2),
            ("current_protection", 1),
            ("power_protection", 1),
            ("charging_protection", 2),
            ("tpap", 1),
            ("noc", 1),
        ],
    ],
    child_components: &[
        CHILD,
        &[
            ("localSmart", 1),
            ("overheat_protection", 1),
            ("auto_off", 2),
            ("energy_monitoring", 2),
            ("current_protection", 1),
            ("power_protection", 1),
            ("charging_protection", 2),
        ],
    ],
    outlet_fields: &[
        OutletFields::AutoOff,
        OutletFields::Charging,
        OutletFields::Overcurrent,
        OutletFields::OverheatStatus,
        OutletFields::PowerProtection,
        OutletFields::Usb,
        OutletFields::OnOff,
    ],
    night_light: false,
    listing: &[1, 2, 3, 4],
    meter: Some(Meter {
        emeter: true,
        power_in_usage: false,
        milliwatt_hours: true,
    }),
    loads: &[60.0, 12.5, 150.0, 4.0],
    max_watts: 3252.0,
    max_schedule_rules: 32,
};

pub(super) static P316M: Spec = Spec {
    model: "P316M",
    device_model: "P316M(US)",
    device_type: "SMART.TAPOPLUG",
    hw_ver: "1.6",
    fw_ver: "1.0.5 Build 250306 Rel.151943",
    knows_tpap: false,
    default_state_object: false,
    protection_flag: "protection_enabled",
    iot: None,
    components: &[
        BASE,
        STRIP,
        &[
            ("localSmart", 1),
            ("matter", 3),
            ("auto_off", 2),
            ("energy_monitoring", 2),
            ("current_protection", 1),
            ("power_protection", 1),
            ("charging_protection", 2),
        ],
    ],
    child_components: &[
        CHILD,
        &[
            ("localSmart", 1),
            ("auto_off", 2),
            ("energy_monitoring", 2),
            ("current_protection", 1),
            ("power_protection", 1),
            ("charging_protection", 2),
        ],
    ],
    outlet_fields: &[
        OutletFields::AutoOff,
        OutletFields::Charging,
        OutletFields::Overcurrent,
        OutletFields::PowerProtection,
        OutletFields::Usb,
        OutletFields::OnOff,
    ],
    night_light: false,
    listing: &[1, 2, 3, 4, 5, 6],
    meter: Some(Meter {
        emeter: true,
        power_in_usage: false,
        milliwatt_hours: false,
    }),
    loads: &[60.0, 12.5, 150.0, 4.0, 900.0, 1.0],
    max_watts: 1644.0,
    max_schedule_rules: 32,
};

pub(super) static EP40M: Spec = Spec {
    model: "EP40M",
    device_model: "EP40M(US)",
    device_type: "SMART.KASAPLUG",
    hw_ver: "1.0",
    fw_ver: "1.1.0 Build 240415 Rel.171219",
    knows_tpap: false,
    default_state_object: false,
    protection_flag: "enabled",
    iot: None,
    components: &[BASE, STRIP, &[("matter", 2), ("overheat_protection", 1)]],
    child_components: &[CHILD, &[("overheat_protection", 1)]],
    outlet_fields: &[OutletFields::OverheatStatus, OutletFields::Usb],
    night_light: false,
    listing: &[2, 1],
    meter: None,
    loads: &[60.0, 12.0],
    max_watts: 1800.0,
    max_schedule_rules: 32,
};

pub(super) static P210M: Spec = Spec {
    model: "P210M",
    device_model: "P210M(US)",
    hw_ver: "1.0",
    fw_ver: "1.0.3 Build 240703 Rel.114246",
    outlet_fields: &[
        OutletFields::AutoOff,
        OutletFields::Charging,
        OutletFields::Overcurrent,
        OutletFields::OverheatStatus,
        OutletFields::PowerProtection,
        OutletFields::Usb,
    ],
    listing: &[1, 2],
    loads: &[60.0, 12.5],
    max_watts: 1827.0,
    ..P316M
};

pub(super) static P306: Spec = Spec {
    model: "P306",
    device_model: "P306(US)",
    fw_ver: "1.1.2 Build 240531 Rel.204226",
    components: &[
        BASE,
        STRIP,
        &[
            ("localSmart", 1),
            ("auto_off", 2),
            ("homekit", 2),
            ("overheat_protection", 1),
            ("auto_light_control", 1),
        ],
    ],
    child_components: &[
        CHILD,
        &[
            ("localSmart", 1),
            ("overheat_protection", 1),
            ("auto_light_control", 1),
            ("auto_off", 2),
        ],
    ],
    outlet_fields: &[
        OutletFields::AutoOff,
        OutletFields::OverheatStatus,
        OutletFields::Usb,
    ],
    night_light: true,
    listing: &[4, 3, 2, 1],
    loads: &[60.0, 12.0, 5.0, 1.0],
    ..P300
};

pub(super) static TP25: Spec = Spec {
    model: "TP25",
    device_model: "TP25(US)",
    device_type: "SMART.TAPOPLUG",
    fw_ver: "1.0.2 Build 230206 Rel.095245",
    components: &[BASE, STRIP, &[("matter", 1), ("overheat_protection", 1)]],
    outlet_fields: &[OutletFields::OverheatStatus],
    listing: &[1, 2],
    ..EP40M
};

/// Old Kasa devices have modules in place of components.
const IOT_PLUG: Spec = Spec {
    model: "HS100",
    device_model: "HS100(UK)",
    device_type: "IOT.SMARTPLUGSWITCH",
    hw_ver: "4.1",
    fw_ver: "1.1.0 Build 201016 Rel.175121",
    knows_tpap: false,
    default_state_object: false,
    protection_flag: "enabled",
    night_light: false,
    iot: Some(Iot {
        whole_units: false,
        short_ids: false,
        description: "Smart Wi-Fi Plug",
    }),
    components: &[],
    child_components: &[],
    outlet_fields: &[],
    listing: &[1],
    meter: None,
    loads: &[60.0],
    max_watts: 2990.0,
    max_schedule_rules: 32,
};
const IOT_METER: Option<Meter> = Some(Meter {
    emeter: true,
    power_in_usage: false,
    milliwatt_hours: false,
});

pub(super) static HS100: Spec = IOT_PLUG;

pub(super) static HS110: Spec = Spec {
    model: "HS110",
    device_model: "HS110(EU)",
    hw_ver: "1.0",
    fw_ver: "1.2.5 Build 171213 Rel.101523",
    iot: Some(Iot {
        whole_units: true,
        short_ids: false,
        description: "Wi-Fi Smart Plug With Energy Monitoring",
    }),
    meter: IOT_METER,
    ..IOT_PLUG
};

pub(super) static KP115: Spec = Spec {
    model: "KP115",
    device_model: "KP115(US)",
    hw_ver: "1.0",
    fw_ver: "1.0.21 Build 231129 Rel.171238",
    meter: IOT_METER,
    ..IOT_PLUG
};

pub(super) static HS300: Spec = Spec {
    model: "HS300",
    device_model: "HS300(US)",
    hw_ver: "1.0",
    fw_ver: "1.0.10 Build 190103 Rel.163517",
    listing: &[1, 2, 3, 4, 5, 6],
    meter: IOT_METER,
    loads: &[60.0, 12.5, 150.0, 4.0, 900.0, 1.0],
    max_watts: 1800.0,
    ..IOT_PLUG
};

pub(super) static KP303: Spec = Spec {
    model: "KP303",
    device_model: "KP303(UK)",
    hw_ver: "1.0",
    fw_ver: "1.0.5 Build 210105 Rel.145253",
    iot: Some(Iot {
        whole_units: false,
        short_ids: true,
        description: "Smart Wi-Fi Plug",
    }),
    listing: &[1, 2, 3],
    loads: &[60.0, 12.5, 150.0],
    ..IOT_PLUG
};

pub(super) static HS200: Spec = Spec {
    model: "HS200",
    device_model: "HS200(US)",
    hw_ver: "5.0",
    fw_ver: "1.0.2 Build 200819 Rel.105309",
    iot: Some(Iot {
        whole_units: false,
        short_ids: false,
        description: "Smart Wi-Fi Light Switch",
    }),
    max_watts: 1800.0,
    ..IOT_PLUG
};

pub(super) static HS220: Spec = Spec {
    model: "HS220",
    device_model: "HS220(US)",
    hw_ver: "1.0",
    fw_ver: "1.5.7 Build 180912 Rel.104837",
    iot: Some(Iot {
        whole_units: false,
        short_ids: false,
        description: "Smart Wi-Fi Dimmer",
    }),
    outlet_fields: &[OutletFields::Brightness],
    max_watts: 300.0,
    ..IOT_PLUG
};

pub(super) static KS205: Spec = Spec {
    model: "KS205",
    device_model: "KS205(US)",
    device_type: "SMART.KASASWITCH",
    fw_ver: "1.1.0 Build 240411 Rel.144632",
    knows_tpap: false,
    default_state_object: true,
    components: &[BASE, &[("auto_off", 2), ("matter", 2)]],
    outlet_fields: &[OutletFields::AutoOff, OutletFields::OverheatStatus],
    meter: None,
    max_watts: 1800.0,
    ..P110
};

pub(super) static S500D: Spec = Spec {
    model: "S500D",
    device_model: "S500D(US)",
    device_type: "SMART.TAPOSWITCH",
    fw_ver: "1.0.5 Build 221014 Rel.112003",
    knows_tpap: false,
    components: &[
        BASE,
        &[
            ("inherit", 1),
            ("brightness", 1),
            ("preset", 1),
            ("on_off_gradually", 2),
            ("dimmer_calibration", 1),
            ("overheat_protection", 1),
        ],
    ],
    outlet_fields: &[OutletFields::Brightness, OutletFields::OverheatStatus],
    meter: None,
    max_watts: 300.0,
    ..P110
};

pub(super) static L510: Spec = Spec {
    model: "L510",
    device_model: "L510E(US)",
    device_type: "SMART.TAPOBULB",
    hw_ver: "3.0",
    fw_ver: "1.1.2 Build 231120 Rel.201048",
    knows_tpap: false,
    components: &[&[
        ("device", 2),
        ("firmware", 2),
        ("quick_setup", 3),
        ("inherit", 1),
        ("time", 1),
        ("wireless", 1),
        ("schedule", 2),
        ("countdown", 2),
        ("antitheft", 1),
        ("account", 1),
        ("synchronize", 1),
        ("sunrise_sunset", 1),
        ("brightness", 1),
        ("cloud_connect", 1),
        ("default_states", 1),
        ("preset", 1),
        ("device_local_time", 1),
        ("iot_cloud", 1),
        ("bulb_quick_control", 1),
        ("on_off_gradually", 3),
        ("localSmart", 1),
    ]],
    outlet_fields: &[OutletFields::Brightness, OutletFields::OverheatedFlag],
    meter: None,
    loads: &[9.0],
    ..P110
};

/// What hubs list.
const HUB: &[Component] = &[
    ("device", 2),
    ("firmware", 2),
    ("quick_setup", 3),
    ("inherit", 1),
    ("time", 1),
    ("wireless", 1),
    ("account", 1),
    ("synchronize", 1),
    ("sunrise_sunset", 1),
    ("led", 1),
    ("cloud_connect", 1),
    ("iot_cloud", 1),
    ("child_device", 1),
    ("child_quick_setup", 1),
    ("child_inherit", 1),
    ("control_child", 1),
    ("alarm", 1),
    ("device_load", 1),
    ("device_local_time", 1),
    ("alarm_logs", 1),
    ("localSmart", 1),
    ("matter", 3),
    ("chime", 1),
];

pub(super) static H100: Spec = Spec {
    model: "H100",
    device_model: "H100(EU)",
    device_type: "SMART.TAPOHUB",
    hw_ver: "1.0",
    fw_ver: "1.5.23 Build 241106 Rel.093525",
    knows_tpap: false,
    default_state_object: false,
    components: &[HUB],
    child_components: &[],
    outlet_fields: &[],
    night_light: false,
    iot: None,
    listing: &[],
    meter: None,
    loads: &[],
    max_watts: 0.0,
    protection_flag: "",
    max_schedule_rules: 0,
};

pub(super) static KH100: Spec = Spec {
    model: "KH100",
    device_model: "KH100(UK)",
    device_type: "SMART.KASAHUB",
    fw_ver: "1.7.5 Build 250122 Rel.120412",
    ..H100
};
