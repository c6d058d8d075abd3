<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<!-- How QGIS draws changes.fgb, which lies beside this file: a colour per kind, the denser the more confident the
     model, and never so dense that the picture beneath is hidden. Roads are hatched and lie above, as buildings often fill the same cells.
     The line is dashed around what was removed, and dotted around what was altered. -->
<qgis version="3.22.0" styleCategories="Symbology|Labeling" labelsEnabled="1">
  <renderer-v2 type="categorizedSymbol" attr="kind" symbollevels="1" enableorderby="0" forceraster="0">
    <categories>
      <category symbol="0" value="building" label="Buildings" render="true"/>
      <category symbol="1" value="road" label="Roads" render="true"/>
    </categories>
    <symbols>
      <symbol name="0" type="fill" alpha="1" clip_to_extent="1" force_rhr="0">
        <layer class="SimpleFill" enabled="1" locked="0" pass="0">
          <Option type="Map">
            <Option name="color" type="QString" value="255,107,44,255"/>
            <Option name="style" type="QString" value="solid"/>
            <Option name="joinstyle" type="QString" value="miter"/>
            <Option name="outline_color" type="QString" value="177,67,15,255"/>
            <Option name="outline_style" type="QString" value="solid"/>
            <Option name="outline_width" type="QString" value="0.5"/>
            <Option name="outline_width_unit" type="QString" value="MM"/>
          </Option>
          <data_defined_properties>
            <Option type="Map">
              <Option name="name" type="QString" value=""/>
              <Option name="properties" type="Map">
                <Option name="outlineStyle" type="Map">
                  <Option name="active" type="bool" value="true"/>
                  <Option name="expression" type="QString" value="CASE WHEN &quot;change&quot; = 'removed' THEN 'dash' WHEN &quot;change&quot; = 'altered' THEN 'dot' ELSE 'solid' END"/>
                  <Option name="type" type="int" value="3"/>
                </Option>
                <Option name="fillColor" type="Map">
                  <Option name="active" type="bool" value="true"/>
                  <Option name="expression" type="QString" value="set_color_part(@symbol_color, 'alpha', scale_linear(coalesce(&quot;confidence&quot;, 0.5), 0.5, 1, 25, 100))"/>
                  <Option name="type" type="int" value="3"/>
                </Option>
              </Option>
              <Option name="type" type="QString" value="collection"/>
            </Option>
          </data_defined_properties>
        </layer>
      </symbol>
      <symbol name="1" type="fill" alpha="1" clip_to_extent="1" force_rhr="0">
        <layer class="SimpleFill" enabled="1" locked="0" pass="1">
          <Option type="Map">
            <Option name="color" type="QString" value="9,112,143,255"/>
            <Option name="style" type="QString" value="b_diagonal"/>
            <Option name="joinstyle" type="QString" value="miter"/>
            <Option name="outline_color" type="QString" value="9,112,143,255"/>
            <Option name="outline_style" type="QString" value="solid"/>
            <Option name="outline_width" type="QString" value="0.5"/>
            <Option name="outline_width_unit" type="QString" value="MM"/>
          </Option>
          <data_defined_properties>
            <Option type="Map">
              <Option name="name" type="QString" value=""/>
              <Option name="properties" type="Map">
                <Option name="outlineStyle" type="Map">
                  <Option name="active" type="bool" value="true"/>
                  <Option name="expression" type="QString" value="CASE WHEN &quot;change&quot; = 'removed' THEN 'dash' WHEN &quot;change&quot; = 'altered' THEN 'dot' ELSE 'solid' END"/>
                  <Option name="type" type="int" value="3"/>
                </Option>
                <Option name="fillColor" type="Map">
                  <Option name="active" type="bool" value="true"/>
                  <Option name="expression" type="QString" value="set_color_part(@symbol_color, 'alpha', scale_linear(coalesce(&quot;confidence&quot;, 0.5), 0.5, 1, 120, 255))"/>
                  <Option name="type" type="int" value="3"/>
                </Option>
              </Option>
              <Option name="type" type="QString" value="collection"/>
            </Option>
          </data_defined_properties>
        </layer>
      </symbol>
    </symbols>
  </renderer-v2>
  <labeling type="simple">
    <settings calloutType="simple">
      <text-style fieldName="&quot;kind&quot; || coalesce(' ' || &quot;change&quot;, '') || coalesce(' ' || to_string(round(100 * &quot;confidence&quot;)) || ' %', '')" isExpression="1" fontSize="8" fontSizeUnit="Point" fontWeight="50" textColor="25,25,25,255" textOpacity="1" multilineHeight="1">
        <text-buffer bufferDraw="1" bufferSize="0.8" bufferSizeUnits="MM" bufferColor="255,255,255,255" bufferOpacity="1" bufferNoFill="1" bufferJoinStyle="128"/>
      </text-style>
      <placement placement="0" polygonPlacementFlags="2" centroidInside="1" priority="5"/>
      <rendering drawLabels="1" displayAll="0" obstacle="1" fontMinPixelSize="0" fontMaxPixelSize="10000"/>
    </settings>
  </labeling>
  <layerGeometryType>2</layerGeometryType>
</qgis>
